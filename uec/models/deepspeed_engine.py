"""The DeepSpeed engine around a policy: ZeRO stage 0 to 3, AdamW, clipping; and a frozen reference beside it."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from uec.config.schema import LearnerConfig, ModelConfig
from uec.errors import BadInput
from uec.system.platform import Platform

Named = tuple[str, Any]
"""A parameter's name, and the parameter with the attributes that DeepSpeed gives it."""

GATHER_BYTES = 256 << 20


def _config(settings: LearnerConfig, platform: Platform) -> dict[str, Any]:
    half = platform.dtype == "bfloat16"
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,  # the update marks the boundary itself: the number of micro-batches varies
        "gradient_clipping": settings.grad_clip,
        "steps_per_print": 1 << 60,
        "zero_optimization": {"stage": settings.zero_stage},
        "bf16": {"enabled": half},
        **({"data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"} if half else {}),
    }


def vision_tower(hf: Any) -> nn.Module | None:
    """The part of a model that turns images into features, with what fits them to the language model where the two are one module."""
    tower = hf.get_encoder(modality="image")
    return None if tower in (hf, hf.base_model) else tower


def freeze(hf: nn.Module, model: ModelConfig) -> None:
    """Take the gradients from what `model` says is not trained. Raises BadInput for a model without a vision tower."""
    if model.freeze_vision_tower:
        tower = vision_tower(hf)
        if tower is None:
            raise BadInput(f"model.freeze_vision_tower=true, and {model.path} ({type(hf).__name__}) has no vision tower")
        tower.requires_grad_(False)


def trained(hf: nn.Module) -> Iterator[Named]:
    """The parameters that training changes: what is saved, and sent to the engines."""
    return ((name, parameter) for name, parameter in hf.named_parameters() if parameter.requires_grad)


def make_engine(policy: nn.Module, settings: LearnerConfig, platform: Platform) -> Any:
    """DeepSpeed's engine; torch.distributed must be up. A client AdamW, for DeepSpeed's own would be compiled first."""
    import deepspeed

    beta1, beta2 = settings.betas
    groups = _groups(policy, settings)
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(beta1, beta2), weight_decay=settings.weight_decay, fused=True)
    engine, *_ = deepspeed.initialize(model=policy, optimizer=optimizer, config=_config(settings, platform))
    engine.train()
    return engine


def _groups(policy: Any, settings: LearnerConfig) -> list[dict[str, Any]]:
    """AdamW's groups of parameters, each with its share `lr_scale` of the learning rate."""
    tower = vision_tower(policy.hf)
    slow = set() if tower is None else {id(parameter) for parameter in tower.parameters()}
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if id(p) not in slow], "lr_scale": 1.0},
        {"params": [p for p in parameters if id(p) in slow], "lr_scale": settings.vision_lr_scale},
    ]
    if settings.vision_lr_scale == 1.0:
        groups = [{"params": parameters, "lr_scale": 1.0}]
    return [group for group in groups if group["params"]]


def make_reference(policy: nn.Module, settings: LearnerConfig, platform: Platform) -> nn.Module:
    """The frozen start model. Under ZeRO-3 it is partitioned as the policy is, else each rank holds all of it."""
    policy.requires_grad_(False)
    if settings.zero_stage < 3:
        return policy.to(platform.device).eval()
    import deepspeed

    engine, *_ = deepspeed.initialize(model=policy, config=_config(settings, platform))
    engine.eval()  # returns nothing, unlike torch's
    return engine


def gathered(named: Iterator[Named]) -> Iterator[tuple[str, Tensor]]:
    """Full parameters one after the other. Under ZeRO-3 all ranks must iterate, and each sees every tensor.

    A partitioned parameter is whole only until the next one is asked for: copy it. Never more than one bucket of
    GATHER_BYTES (or one larger parameter) is.
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
    import deepspeed

    partitioned = [parameter for _, parameter in bucket if hasattr(parameter, "ds_id")]
    with deepspeed.zero.GatheredParameters(partitioned) if partitioned else nullcontext():
        for name, parameter in bucket:
            yield name, parameter.detach()


def _numel(parameter: Any) -> int:
    return parameter.ds_numel if hasattr(parameter, "ds_id") else parameter.numel()
