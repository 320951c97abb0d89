"""Calls verl's own functions on the inputs and writes verl.json. Everything in float64, so that rounding is ours alone."""

from typing import Any

import torch
from torch import Tensor
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo import core_algos, rollout_corr_helper
from verl.utils import torch_functional
from verl.workers.config import ActorConfig, PolicyLossConfig

from tests.oracle.inputs import TOKENS, Batch, cases, logits
from tests.oracle.values import Values, entry, write

LOSS_CASES = ("graded", "binary")
NO_DUAL_CLIP = 1e9
"""verl's vanilla loss always has a dual clip: this bound is never reached."""
RATIO_02_028: dict[str, Any] = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28}
GSPO_CLIP: dict[str, Any] = {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4}


def advantages(case: str, batch: Batch) -> Values:
    """Advantages [B, T]. The reward stands on the response's last token; an empty response's on its first, masked."""
    mask_BT = torch.from_numpy(batch.mask_BT)
    rewards_BT = torch.zeros(mask_BT.shape, dtype=torch.float64)
    rewards_BT[torch.arange(len(mask_BT)), (mask_BT.sum(-1) - 1).clamp(min=0)] = torch.from_numpy(batch.rewards_B)
    config = AlgoConfig(gamma=1.0)
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "grpo": ("grpo", {"norm_adv_by_std_in_grpo": True}),
        "grpo_no_std": ("grpo", {"norm_adv_by_std_in_grpo": False}),
        "rloo": ("rloo", {}),
        "reinforce_plus_plus": ("reinforce_plus_plus", {}),
        "reinforce_plus_plus_baseline": ("reinforce_plus_plus_baseline", {}),
    }
    values = {}
    for name, (estimator, settings) in kinds.items():
        function = core_algos.get_adv_estimator_fn(estimator)
        index = {} if estimator == "reinforce_plus_plus" else {"index": batch.groups_B}
        result_BT, _ = function(token_level_rewards=rewards_BT.clone(), response_mask=mask_BT, config=config, **index, **settings)
        values[f"advantage/{name}/{case}"] = entry(case, f"core_algos.{function.__name__}", settings, advantages=result_BT)
    return values


def policy_loss(
    case: str, batch: Batch, mode: str, aggregation: str = "token-mean", tis: float | None = None, **settings: Any
) -> dict[str, Any]:
    """A policy loss, its gradient to the new log-probabilities [B, T], and what the function reports.

    Settings that are no field of ActorConfig go to PolicyLossConfig. With `tis`, verl's truncated token weights multiply the loss.
    """
    actor = {name: value for name, value in settings.items() if name in ActorConfig.__dataclass_fields__}
    inner = {name: value for name, value in settings.items() if name not in actor}
    config = ActorConfig(
        strategy="fsdp", rollout_n=4, ppo_micro_batch_size_per_gpu=1, policy_loss=PolicyLossConfig(loss_mode=mode, **inner), **actor
    )
    new_BT = torch.from_numpy(batch.new_BT).requires_grad_()
    weights = None if tis is None else correction(batch, rollout_is="token", rollout_is_threshold=tis)[0]
    function = core_algos.get_policy_loss_fn(mode)
    loss, metrics = function(
        old_log_prob=torch.from_numpy(batch.old_BT),
        log_prob=new_BT,
        advantages=torch.from_numpy(batch.advantages_B)[:, None].expand(-1, TOKENS).clone(),
        response_mask=torch.from_numpy(batch.mask_BT),
        loss_agg_mode=aggregation,
        config=config,
        rollout_is_weights=weights,
    )
    loss.backward()
    told = {**settings, "loss_agg_mode": aggregation} | ({} if tis is None else {"rollout_is_threshold": tis})
    return entry(case, f"core_algos.{function.__name__}", told, loss=loss, gradient=new_BT.grad, metrics=metrics)


def policy_losses(case: str, batch: Batch) -> Values:
    """Every policy loss that we have a counterpart of."""
    values = {}

    def add(name: str, *args: Any, **settings: Any) -> None:
        values[f"loss/{name}/{case}"] = policy_loss(case, batch, *args, **settings)

    add("ppo", "vanilla", clip_ratio_low=0.2, clip_ratio_high=0.2, clip_ratio_c=NO_DUAL_CLIP)
    add("ppo_clip_higher", "vanilla", **RATIO_02_028, clip_ratio_c=NO_DUAL_CLIP)
    add("ppo_dual", "vanilla", clip_ratio_low=0.2, clip_ratio_high=0.2, clip_ratio_c=3.0)
    add("ppo_clip_higher_dual", "vanilla", **RATIO_02_028, clip_ratio_c=3.0)
    add("ppo_clip_higher_dual_tis", "vanilla", tis=2.0, **RATIO_02_028, clip_ratio_c=3.0)
    for aggregation in ("token-sum", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"):
        add(f"ppo_clip_higher_dual_{aggregation}", "vanilla", aggregation, **RATIO_02_028, clip_ratio_c=3.0)
    add("gspo", "gspo", "seq-mean-token-mean", **GSPO_CLIP)
    add("gspo_token-mean", "gspo", "token-mean", **GSPO_CLIP)
    add("gspo_wide", "gspo", "seq-mean-token-mean", **RATIO_02_028)
    add("cispo", "cispo", **RATIO_02_028)
    add("cispo_upper_1.28", "cispo", clip_ratio_low=1.0, clip_ratio_high=0.28)
    add("cispo_upper_5", "cispo", clip_ratio_low=1.0, clip_ratio_high=4.0)
    values |= covariance_losses(case, batch)
    return values


def covariance_losses(case: str, batch: Batch) -> Values:
    """Clip-Cov and KL-Cov with the tokens that each chose.

    Clip-Cov takes a random share of its candidates: with ratio 1 it takes all. At its default ratio it takes one, drawn
    from torch's seed 0. verl returns no choice: it is read off the gradient, against one in which none is chosen.
    """
    none_chosen = {"clip_cov_ratio": 1.0, "clip_cov_lb": 1e9, "clip_cov_ub": 2e9}
    free = policy_loss(case, batch, "clip_cov", clip_ratio_low=0.2, clip_ratio_high=0.2, **none_chosen)
    values = {}
    clip_kinds: dict[str, dict[str, Any]] = {
        "clip_cov_all": {"clip_cov_ratio": 1.0, "clip_cov_lb": 1.0, "clip_cov_ub": 5.0},
        "clip_cov_all_wide": {"clip_cov_ratio": 1.0, "clip_cov_lb": 0.2, "clip_cov_ub": 20.0},
        "clip_cov_seeded": {"clip_cov_ratio": 2e-4, "clip_cov_lb": 1.0, "clip_cov_ub": 5.0},
    }
    for name, settings in clip_kinds.items():
        torch.manual_seed(0)
        value = policy_loss(case, batch, "clip_cov", clip_ratio_low=0.2, clip_ratio_high=0.2, **settings)
        value["outputs"]["chosen"] = differing(value, free)
        values[f"loss/{name}/{case}"] = value
    for name, ratio, coef in (("kl_cov", 2e-4, 1.0), ("kl_cov_20%", 0.2, 1.0), ("kl_cov_20%_0.1", 0.2, 0.1)):
        value = policy_loss(case, batch, "kl_cov", kl_cov_ratio=ratio, ppo_kl_coef=coef)
        without = policy_loss(case, batch, "kl_cov", kl_cov_ratio=ratio, ppo_kl_coef=0.0)
        value["outputs"]["chosen"] = differing(value, without)
        values[f"loss/{name}/{case}"] = value
    return values


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[list[int]]:
    """1 where two losses' gradients differ [B, T]."""
    gradients = (torch.tensor(value["outputs"]["gradient"], dtype=torch.float64) for value in (one, other))
    return torch.ne(*gradients).int().tolist()


def aggregations(case: str, batch: Batch) -> Values:
    """`agg_loss` of the loss matrix -old_logprobs, and the weight that each token gets in it [B, T].

    `_global`: the denominators of a global batch, on one of two ranks, as a micro-batch is given them.
    """
    counts = {"batch_num_tokens": 200, "global_batch_size": 30, "loss_scale_factor": 16, "dp_size": 2}
    values = {}
    for mode in ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"):
        for name, settings in ((mode, {}), (f"{mode}_global", counts)):
            loss_BT = (-torch.from_numpy(batch.old_BT)).requires_grad_()
            loss = core_algos.agg_loss(loss_BT, torch.from_numpy(batch.mask_BT), mode, **settings)
            loss.backward()
            told = {"loss_agg_mode": mode, **settings}
            values[f"aggregation/{name}/{case}"] = entry(case, "core_algos.agg_loss", told, loss=loss, weights=loss_BT.grad)
    return values


def kl_penalties(case: str, batch: Batch) -> Values:
    """KL estimates [B, T] and the gradient of their sum to the new log-probabilities. Not masked: verl masks on aggregation.

    `k3+` has the value of k3 and the gradient of k2.
    """
    aliases = {"k1": ("kl",), "k2": ("mse",), "k3": ("low_var_kl",), "k3+": ("low_var_kl+",)}
    values = {}
    for kind, names in aliases.items():
        new_BT, ref_BT = torch.from_numpy(batch.new_BT).requires_grad_(), torch.from_numpy(batch.ref_BT)
        kl_BT = core_algos.kl_penalty(new_BT, ref_BT, kind)
        kl_BT.sum().backward()
        same = [name for name in names if torch.equal(core_algos.kl_penalty(new_BT, ref_BT, name), kl_BT)]
        told = {"kl_penalty": kind}
        outputs = {"kl": kl_BT.detach(), "gradient": new_BT.grad, "other_names": same}
        values[f"kl/{kind}/{case}"] = entry(case, "core_algos.kl_penalty", told, **outputs)
    return values


def correction(batch: Batch, **settings: Any) -> tuple[Tensor, dict[str, float]]:
    """Weights [B, T] of old policy over rollout policy, and what verl reports."""
    proto, _, metrics = rollout_corr_helper.compute_rollout_correction_and_rejection_mask(
        old_log_prob=torch.from_numpy(batch.old_BT),
        rollout_log_prob=torch.from_numpy(batch.rollout_BT),
        response_mask=torch.from_numpy(batch.mask_BT),
        **settings,
    )
    return proto.batch["rollout_is_weights"], metrics


def corrections(case: str, batch: Batch) -> Values:
    """Truncated importance sampling of tokens and sequences, normalised too, and IcePop (zero outside of both bounds)."""
    kinds: dict[str, dict[str, Any]] = {
        "token": {"rollout_is": "token", "rollout_is_threshold": 2.0},
        "token_normalised": {"rollout_is": "token", "rollout_is_threshold": 2.0, "rollout_is_batch_normalize": True},
        "token_icepop": {"rollout_is": "token", "rollout_is_threshold": "0.5_2.0"},
        "sequence": {"rollout_is": "sequence", "rollout_is_threshold": 2.0},
    }
    function = "rollout_corr_helper.compute_rollout_correction_and_rejection_mask"
    values = {}
    for name, settings in kinds.items():
        weights_BT, metrics = correction(batch, **settings)
        values[f"tis/{name}/{case}"] = entry(case, function, settings, weights=weights_BT, metrics=metrics)
    return values


def of_logits() -> Values:
    """Entropy [3, 5] with the gradient of its sum to the logits [3, 5, V], and log-probabilities of the token ids [3, 5]."""
    logits_RTV, ids_RT = (torch.from_numpy(array) for array in logits())
    logits_RTV.requires_grad_()
    entropy_RT = torch_functional.entropy_from_logits(logits_RTV)
    entropy_RT.sum().backward()
    logprobs_RT = torch_functional.logprobs_from_logits_naive(logits_RTV.detach(), ids_RT)
    return {
        "entropy/logits": entry(
            "logits", "torch_functional.entropy_from_logits", {}, entropy=entropy_RT.detach(), gradient=logits_RTV.grad
        ),
        "logprobs/logits": entry("logits", "torch_functional.logprobs_from_logits_naive", {}, logprobs=logprobs_RT),
    }


def main() -> None:
    """Compute and write all."""
    torch.set_num_threads(1)
    values = of_logits()
    batches = cases()
    for case in ("graded", "binary", "unequal", "singleton"):
        values |= advantages(case, batches[case])
    for case in LOSS_CASES:
        for compute in (policy_losses, aggregations, kl_penalties, corrections):
            values |= compute(case, batches[case])
    extreme = batches["extreme"]
    dual = policy_loss("extreme", extreme, "vanilla", **RATIO_02_028, clip_ratio_c=3.0)
    values["loss/ppo_clip_higher_dual/extreme"] = dual
    values["loss/cispo/extreme"] = policy_loss("extreme", extreme, "cispo", **RATIO_02_028)
    values["kl/k3/extreme"] = kl_penalties("extreme", extreme)["kl/k3/extreme"]
    write("verl", values)


if __name__ == "__main__":
    main()
