"""Estimates of KL(pi || pi_ref) from sampled tokens (Schulman 2020, http://joschu.net/blog/kl-approx.html)."""

import torch
from torch import Tensor

from uec.algorithm.losses.token_batch import LOG_RATIO_MAX, TokenBatch
from uec.config import Loss


def kl_estimate(logprobs_N: Tensor, reference_N: Tensor, estimator: str) -> Tensor:
    """[N] in nats, d = logp - logp_ref: k1 = d (unbiased, of either sign), k2 = d^2 / 2 (its gradient is unbiased),
    k3 = exp(-d) - 1 + d (unbiased, never negative, of low variance)."""
    d_N = (logprobs_N - reference_N.detach()).clamp(-LOG_RATIO_MAX, LOG_RATIO_MAX)
    if estimator == "k1":
        return d_N
    if estimator == "k2":
        return d_N.square() / 2
    return torch.expm1(-d_N) + d_N


def less_kl_to_go(batch: TokenBatch, reference_N: Tensor, settings: Loss) -> Tensor:
    """Advantages [N] less kl_coef times the KL from each token to the end of its response, without gradient.

    REINFORCE++ (2501.03262, equations 8 and 9) has the penalty in the reward, where it reaches every earlier token. It is that of
    the old policy: a reward does not change from one optimizer step to the next. There the sum is normalised once more; here
    the advantage that retention decided on stays as it is.
    """
    kl_N = kl_estimate(batch.old_N.detach(), reference_N, settings.kl_estimator)
    return batch.advantages_N - settings.kl_coef * batch.left_to_go_N(kl_N)
