"""GRPO's loss on response tokens laid end to end [N]: no padding, no masks.

Everything a micro-batch gives is a sum over its tokens divided by the *global* number of tokens, so that adding over
micro-batches and ranks gives what one batch on one rank gives. A mean of micro-batch means does not.
"""

import torch
from torch import Tensor

from uec.config import Learner

Metrics = dict[str, Tensor]
"""Sums over tokens, detached scalars by name: add over micro-batches and ranks, then divide by the count of tokens."""

LOG_RATIO_MAX = 20.0
"""exp of more is no longer a finite gradient in float32; the surrogate is far outside its clip range there."""


def ppo_clip(
    logprobs_N: Tensor,
    old_logprobs_N: Tensor,
    advantages_N: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> tuple[Tensor, Metrics]:
    """Clipped surrogate of each token, to be minimised.

    rho = exp(logp - logp_old), J = min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), and for A < 0 J is not below
    dual_clip A. Sources: PPO (1707.06347) as in GRPO (2402.03300); dual clip 1912.09729, equation 5.

    Args: log-probabilities in nats and advantages, each [N]; only `logprobs_N` carries a gradient.
    Returns: -J [N], and the sums `ratio_mean`, `clip_frac` (tokens whose gradient the clip cut off; being outside the
    range on the harmless side does not count) and `dual_clip_frac`.
    """
    log_ratio_N = (logprobs_N - old_logprobs_N.detach()).clamp(-LOG_RATIO_MAX, LOG_RATIO_MAX)
    ratio_N = log_ratio_N.exp()
    free_N = ratio_N * advantages_N
    clipped_N = ratio_N.clamp(1 - clip_low, 1 + clip_high) * advantages_N
    objective_N = torch.minimum(free_N, clipped_N)
    floored = torch.zeros((), device=logprobs_N.device)
    if dual_clip is not None:
        floor_N = torch.where(advantages_N < 0, dual_clip * advantages_N, -torch.inf)
        floored = (objective_N < floor_N).sum()
        objective_N = torch.maximum(objective_N, floor_N)
    metrics = {
        "ratio_mean": ratio_N.detach().sum(),
        "clip_frac": (clipped_N < free_N).sum(),
        "dual_clip_frac": floored,
    }
    return -objective_N, metrics


def kl_k3(logprobs_N: Tensor, ref_logprobs_N: Tensor) -> Tensor:
    """Estimate [N] of KL(pi || pi_ref) from sampled tokens, in nats: exp(-d) - 1 + d, d = logp - logp_ref.

    Never negative and of low variance (Schulman 2020, http://joschu.net/blog/kl-approx.html).
    """
    d_N = (logprobs_N - ref_logprobs_N.detach()).clamp(-LOG_RATIO_MAX, LOG_RATIO_MAX)
    return torch.expm1(-d_N) + d_N


def token_mean(loss_N: Tensor, global_tokens: int) -> Tensor:
    """This micro-batch's share of the mean over all response tokens of an optimizer step, on all ranks."""
    return loss_N.sum() / global_tokens


def grpo(
    logprobs_N: Tensor,
    old_logprobs_N: Tensor,
    advantages_N: Tensor,
    ref_logprobs_N: Tensor | None,
    settings: Learner,
    global_tokens: int,
) -> tuple[Tensor, Metrics]:
    """GRPO (2402.03300): clipped surrogate plus kl_coef times k3, aggregated as token mean (2503.14476).

    Args: as in `ppo_clip`; `ref_logprobs_N` of the start model, or None where kl_coef is 0.
    Returns: the scalar loss, and the sums of `ppo_clip` with `loss` and, where there is a reference, `kl`.
    """
    loss_N, metrics = ppo_clip(
        logprobs_N,
        old_logprobs_N,
        advantages_N,
        clip_low=settings.clip_low,
        clip_high=settings.clip_high,
        dual_clip=settings.dual_clip,
    )
    if ref_logprobs_N is not None:
        kl_N = kl_k3(logprobs_N, ref_logprobs_N)
        loss_N = loss_N + settings.kl_coef * kl_N
        metrics["kl"] = kl_N.detach().sum()
    metrics["loss"] = loss_N.detach().sum()
    return token_mean(loss_N, global_tokens), metrics
