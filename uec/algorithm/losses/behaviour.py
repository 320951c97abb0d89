"""Importance weights where the policy that sampled is not the one that is trained."""

import torch
from torch import Tensor

from uec.algorithm.losses.token_batch import LOG_RATIO_MAX


def truncated_weights(logprobs_N: Tensor, behaviour_N: Tensor, cap: float) -> Tensor:
    """min(p / mu, cap) of each token [N], without gradient."""
    return (logprobs_N.detach() - behaviour_N).clamp(-LOG_RATIO_MAX, LOG_RATIO_MAX).exp().clamp(max=cap)


def behaviour_weights(
    old_N: Tensor,
    tempered_N: Tensor,
    behaviour_N: Tensor,
    hot_N: Tensor,
    stored_N: Tensor,
    *,
    correction: str,
    mismatch_cap: float | None,
    is_cap: float,
) -> Tensor | None:
    """Weight of each token [N], or None where nothing is corrected.

    `loss.mismatch_cap` corrects the engine's deviation from the learner: min(pi_old / mu, C), both at the temperature of sampling
    (TIS, Yao et al. 2025). `exploration.correction: truncated-is` corrects what a higher temperature samples too often: for tokens
    sampled at t', min(pi_old at T = 1 / mu, C), which holds the engine's deviation, too.

    Args, all [N]: old log-probabilities, at T = 1 or (correction `tempered`) at the temperature of sampling; those of now, at the
    temperature of sampling; the engine's; which tokens were sampled at another temperature than 1; of which the old figures
    were stored (replay).
    A replayed token at t' without correction has no stored figure at t': weight 1.
    """
    if mismatch_cap is None and correction != "truncated-is":
        return None
    weights_N = torch.ones_like(behaviour_N)
    if mismatch_cap is not None:
        comparable_N = old_N if correction == "tempered" else torch.where(hot_N, tempered_N, old_N)
        known_N = torch.ones_like(hot_N) if correction == "tempered" else ~(hot_N & stored_N)
        weights_N = torch.where(known_N, truncated_weights(comparable_N, behaviour_N, mismatch_cap), weights_N)
    if correction == "truncated-is":
        weights_N = torch.where(hot_N, truncated_weights(old_N, behaviour_N, is_cap), weights_N)
    return weights_N
