"""DeepSpeed engines around a policy: one that trains it (ZeRO stage 0 to 3, AdamW, gradient clipping) and one for inference only."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from uec.config.schema import LearnerConfig
from uec.models.policy import Policy
from uec.models.vision import vision_tower
from uec.system.platform import Platform

Named = tuple[str, Any]
"""A parameter's name, and the parameter with the attributes that DeepSpeed adds to it."""

GATHER_BYTES = 256 << 20


def _config(settings: LearnerConfig, platform: Platform, optimizer: bool) -> dict[str, Any]:
    half = platform.dtype == "bfloat16"
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,  # PolicyUpdate marks the boundary, because the number of micro-batches varies
        "gradient_clipping": settings.grad_clip,
        "steps_per_print": 1 << 60,
        "zero_optimization": {"stage": settings.zero_stage, **_offloaded(settings, platform, optimizer)},
        "zero_force_ds_cpu_optimizer": False,  # allow PyTorch's AdamW with `offload_optimizer`
        "bf16": {"enabled": half},
        **({"data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"} if half else {}),
    }


def _offloaded(settings: LearnerConfig, platform: Platform, optimizer: bool) -> dict[str, Any]:
    """Return what ZeRO keeps in host memory (learner.cpu_offload)."""
    place = {"device": "cpu", "pin_memory": platform.device == "cuda"}
    kept = {"offload_optimizer": optimizer and settings.cpu_offload != "none", "offload_param": settings.cpu_offload == "parameters"}
    return {name: place for name, on in kept.items() if on}


def make_engine(policy: Policy, trainable: Iterator[Named], settings: LearnerConfig, platform: Platform) -> Any:
    """Return DeepSpeed's engine, which trains the `trainable` parameters; torch.distributed must be initialised.

    The optimizer is PyTorch's AdamW with `fused=True`: on CUDA one multi-tensor kernel for all parameters, on CPU a vectorised one.
    DeepSpeed's FusedAdam and CPUAdam do the same, and compile an operator at start-up, which needs CUDA's compiler.
    """
    import deepspeed

    beta1, beta2 = settings.betas
    groups = parameter_groups(policy, trainable, settings)
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(beta1, beta2), weight_decay=settings.weight_decay, fused=True)
    engine, *_ = deepspeed.initialize(model=policy, optimizer=optimizer, config=_config(settings, platform, optimizer=True))
    engine.train()
    return engine


def parameter_groups(policy: Policy, trainable: Iterator[Named], settings: LearnerConfig) -> list[dict[str, Any]]:
    """Return AdamW's groups of parameters, each with its factor `lr_scale` of the learning rate."""
    tower = vision_tower(policy.hf)
    scaled = set() if tower is None or settings.vision_lr_scale == 1.0 else {id(parameter) for parameter in tower.parameters()}
    parameters = [parameter for _, parameter in trainable]
    groups = [
        {"params": [p for p in parameters if id(p) not in scaled], "lr_scale": 1.0},
        {"params": [p for p in parameters if id(p) in scaled], "lr_scale": settings.vision_lr_scale},
    ]
    return [group for group in groups if group["params"]]


def make_inference_engine(policy: Policy, settings: LearnerConfig, platform: Platform) -> nn.Module:
    """Return a frozen policy in evaluation mode. Under ZeRO-3 it is partitioned over the ranks; else each rank holds all of it."""
    policy.requires_grad_(False)
    if settings.zero_stage < 3:
        return policy.to(platform.device).eval()
    import deepspeed

    engine, *_ = deepspeed.initialize(model=policy, config=_config(settings, platform, optimizer=False))
    engine.eval()  # returns nothing, unlike torch's
    return engine


def gathered(named: Iterator[Named]) -> Iterator[tuple[str, Tensor]]:
    """Yield full parameters one after the other. Under ZeRO-3 all ranks must iterate, and each receives every tensor.

    A partitioned parameter is whole only until the next one is requested, so copy it. At most one bucket of GATHER_BYTES (or one
    larger parameter) is whole at a time.
    """
    bucket: list[Named] = []
    nbytes = 0
    for name, parameter in named:
        size = _numel(parameter) * parameter.element_size()
        if bucket and nbytes + size > GATHER_BYTES:
            yield from _open(bucket)
            bucket, nbytes = [], 0
        bucket.append((name, parameter))
        nbytes += size
    yield from _open(bucket)


def _open(bucket: list[Named]) -> Iterator[tuple[str, Tensor]]:
    with _whole([parameter for _, parameter in bucket if hasattr(parameter, "ds_id")]):
        for name, parameter in bucket:
            yield name, parameter.detach()


def _whole(partitioned: list[Any]) -> AbstractContextManager[None]:
    """Return a context in which these parameters are whole on every rank."""
    if not partitioned:
        return nullcontext()  # without an import of DeepSpeed, which takes seconds
    import deepspeed

    return deepspeed.zero.GatheredParameters(partitioned)


def _numel(parameter: Any) -> int:
    return parameter.ds_numel if hasattr(parameter, "ds_id") else parameter.numel()
