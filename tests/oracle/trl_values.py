"""Calls the methods of TRL's GRPO trainer on the inputs and writes trl.json. Float64, but for the rewards and the
sampling log-probabilities, which TRL turns to float32 itself.

A trainer needs a model, a tokenizer and a dataset. Its methods are therefore called unbound, on a stand-in that has just
the attributes that they read; settings come from a real GRPOConfig, so that names and defaults are TRL's.
"""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from trl import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from tests.oracle.inputs import ROWS, TOKENS, Batch, cases, logits
from tests.oracle.values import Values, entry, write

GROUP = 4
LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo")
CLIP_HIGHER: dict[str, Any] = {"epsilon": 0.2, "epsilon_high": 0.28}
GSPO: dict[str, Any] = {"epsilon": 3e-4, "epsilon_high": 4e-4, "importance_sampling_level": "sequence"}


def stand_in(logprobs_BT: Tensor, **settings: Any) -> SimpleNamespace:
    """What the loss and the advantages read of a trainer: one process, one micro-batch, no tools, no images, no entropy bonus.

    `logprobs_BT` is what the model would give for the responses.
    """
    config = GRPOConfig(
        output_dir="unused",
        use_cpu=True,
        bf16=False,
        report_to="none",
        per_device_train_batch_size=ROWS,
        num_generations=GROUP,
        max_completion_length=TOKENS,
        steps_per_generation=1,
        **settings,
    )
    vllm = {name: getattr(config, name) for name in vars(config) if name.startswith("vllm_importance_sampling_")}
    return SimpleNamespace(
        args=config,
        accelerator=Accelerator(cpu=True),
        model=SimpleNamespace(training=True, is_gradient_checkpointing=False),
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs_BT, torch.zeros_like(logprobs_BT), None),
        _metrics={"train": defaultdict(list)},
        # Of the loss:
        loss_type=config.loss_type,
        beta=config.beta,
        epsilon_low=config.epsilon,
        epsilon_high=config.epsilon if config.epsilon_high is None else config.epsilon_high,
        importance_sampling_level=config.importance_sampling_level,
        max_completion_length=config.max_completion_length,
        top_entropy_quantile=config.top_entropy_quantile,
        off_policy_mask_threshold=config.off_policy_mask_threshold,
        use_vllm=config.use_vllm,
        current_gradient_accumulation_steps=1,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        # Of sampling, scoring and advantages:
        scale_rewards=config.scale_rewards,
        multi_objective_aggregation=config.multi_objective_aggregation,
        mask_truncated_completions=config.mask_truncated_completions,
        num_generations=GROUP,
        num_iterations=config.num_iterations,
        pad_to_multiple_of=None,
        reward_weights=torch.ones(1),
        reward_funcs=[None],
        reward_func_names=["reward"],
        environment_factories=None,
        environments=None,
        tools=None,
        log_multimodal=False,
        _tokenizer=SimpleNamespace(pad_token_id=0),
        _logs=defaultdict(list, rewards=defaultdict(list)),
        _pending_extra_logs={},
        _pending_metrics={},
        **vllm,
    )


def loss(case: str, batch: Batch, tis: str | None = None, **settings: Any) -> dict[str, Any]:
    """`_compute_loss`, its gradient to the new log-probabilities [B, T], and what TRL reports.

    With `tis`, a vllm_importance_sampling_mode, the loss is multiplied by TRL's own weights (bound 2).
    """
    new_BT = torch.from_numpy(batch.new_BT).requires_grad_()
    if tis is not None:
        settings |= {"use_vllm": True, "vllm_importance_sampling_mode": tis, "vllm_importance_sampling_clip_max": 2.0}
    mask_BT = torch.from_numpy(batch.mask_BT)
    prompt = torch.ones((ROWS, 1), dtype=torch.int64)
    inputs = {
        "prompt_ids": prompt,
        "prompt_mask": prompt,
        "completion_ids": mask_BT,  # read only for its shape: the model is a stand-in
        "completion_mask": mask_BT,
        "advantages": torch.from_numpy(batch.advantages_B),
        "old_per_token_logps": torch.from_numpy(batch.old_BT),
        "ref_per_token_logps": torch.from_numpy(batch.ref_BT),
        "num_items_in_batch": mask_BT.sum(),
    }
    if tis is not None:
        inputs["importance_sampling_ratio"] = scored(batch, **settings)["importance_sampling_ratio"]
    trainer = stand_in(new_BT, **settings)
    value = GRPOTrainer._compute_loss(trainer, None, inputs)
    value.backward()
    metrics = {name: numbers[0] for name, numbers in trainer._metrics["train"].items() if name != "entropy"}
    return entry(case, "GRPOTrainer._compute_loss", settings, loss=value, gradient=new_BT.grad, metrics=metrics)


def losses(case: str, batch: Batch) -> Values:
    """Every loss that we have a counterpart of."""
    kinds: dict[str, dict[str, Any]] = {
        "grpo": {"loss_type": "grpo", "epsilon": 0.2},
        **{f"{kind}_clip_higher": {"loss_type": kind, **CLIP_HIGHER} for kind in LOSS_TYPES},
        **{f"{kind}_clip_higher_delta": {"loss_type": kind, "delta": 3.0, **CLIP_HIGHER} for kind in LOSS_TYPES},
        "dapo_clip_higher_kl": {"loss_type": "dapo", "beta": 0.01, "use_bias_correction_kl": False, **CLIP_HIGHER},
        "dapo_clip_higher_kl_corrected": {"loss_type": "dapo", "beta": 0.01, "use_bias_correction_kl": True, **CLIP_HIGHER},
        "dapo_clip_higher_delta_tis": {"loss_type": "dapo", "delta": 3.0, "tis": "token_truncate", **CLIP_HIGHER},
        **{f"gspo_{kind}": {"loss_type": kind, **GSPO} for kind in ("grpo", "bnpo", "dapo")},
        "gspo_wide_grpo": {"loss_type": "grpo", "importance_sampling_level": "sequence", **CLIP_HIGHER},
        "cispo_upper_1.28": {"loss_type": "cispo", "epsilon_high": 1.28},
        "cispo_upper_5": {"loss_type": "cispo", "epsilon_high": 5.0},
    }
    return {f"loss/{name}/{case}": loss(case, batch, **settings) for name, settings in kinds.items()}


def scored(batch: Batch, **settings: Any) -> dict[str, Any]:
    """What `_generate_and_score_completions` gives, where sampling and rewards are the batch's."""
    trainer = stand_in(torch.from_numpy(batch.old_BT), **settings)
    lengths = batch.mask_BT.sum(1).tolist()
    sampled = [logprobs[:length].tolist() for logprobs, length in zip(batch.rollout_BT, lengths, strict=True)]
    ids = [[1] * length for length in lengths]
    texts = [""] * ROWS
    logprobs = sampled if trainer.use_vllm else None
    trainer._generate = lambda _: ([[1]] * ROWS, ids, None, texts, logprobs, {}, None, None)
    trainer._calculate_rewards = lambda *_: torch.from_numpy(batch.rewards_B).float()[:, None]
    return GRPOTrainer._generate_and_score_completions(trainer, [{"prompt": ""} for _ in range(ROWS)])


def advantages(case: str, batch: Batch) -> Values:
    """Advantages [B]. TRL knows only groups of equal size."""
    values = {}
    for scale in ("group", "batch", "none"):
        settings = {"scale_rewards": scale}
        result_B = scored(batch, **settings)["advantages"]
        values[f"advantage/{scale}/{case}"] = entry(case, "GRPOTrainer._generate_and_score_completions", settings, advantages=result_B)
    return values


def corrections(case: str, batch: Batch) -> Values:
    """Importance sampling weights of old policy over sampling policy: [B, T], or [B, 1] of whole sequences."""
    values = {}
    for mode in ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"):
        settings = {"use_vllm": True, "vllm_importance_sampling_mode": mode, "vllm_importance_sampling_clip_max": 2.0}
        weights = scored(batch, **settings)["importance_sampling_ratio"]
        values[f"tis/{mode}/{case}"] = entry(case, "GRPOTrainer._generate_and_score_completions", settings, weights=weights)
    return values


def of_logits() -> Values:
    """Entropy [3, 5] with the gradient of its sum to the logits [3, 5, V], and log-probabilities of the token ids [3, 5]."""
    logits_RTV, ids_RT = (torch.from_numpy(array) for array in logits())
    logits_RTV.requires_grad_()
    entropy_RT = entropy_from_logits(logits_RTV)
    entropy_RT.sum().backward()
    logprobs_RT = selective_log_softmax(logits_RTV.detach(), ids_RT)
    return {
        "entropy/logits": entry("logits", "entropy_from_logits", {}, entropy=entropy_RT.detach(), gradient=logits_RTV.grad),
        "logprobs/logits": entry("logits", "selective_log_softmax", {}, logprobs=logprobs_RT),
    }


def main() -> None:
    """Compute and write all."""
    torch.set_num_threads(1)
    values = of_logits()
    batches = cases()
    for case in ("graded", "binary"):
        for compute in (losses, advantages, corrections):
            values |= compute(case, batches[case])
    values["loss/dapo_clip_higher_delta/extreme"] = loss("extreme", batches["extreme"], loss_type="dapo", delta=3.0, **CLIP_HIGHER)
    write("trl", values)


if __name__ == "__main__":
    main()
