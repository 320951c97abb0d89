"""Clip-Cov and KL-Cov (2505.22617): restrain the few tokens that take most of the entropy away."""

import torch
from torch import Tensor

from uec.algorithm.losses.ppo import ppo_clip
from uec.algorithm.losses.token_batch import Metrics, TokenBatch
from uec.config import Loss


def clip_cov(batch: TokenBatch, settings: Loss) -> tuple[Tensor, Metrics]:
    """PPO's clipped surrogate, the marked tokens without gradient [N] (equation 11).

    Marked are a random share of the tokens whose covariance lies in `loss.cov_range`: see `mark`.
    """
    loss_N, metrics = ppo_clip(batch, settings)
    if batch.marked_N is not None:
        loss_N = torch.where(batch.marked_N, 0.0, loss_N)
        metrics["marked_frac"] = batch.marked_N.sum()
    return loss_N, metrics


def kl_cov(batch: TokenBatch, settings: Loss) -> tuple[Tensor, Metrics]:
    """-rho A without a clip, the marked tokens with a penalty cov_kl_coef |logp - logp_old| [N] (equation 13).

    Marked are the tokens of highest covariance. With one optimizer step a batch logp equals logp_old and the penalty has no
    gradient: it takes several.
    """
    log_ratio_N = batch.log_ratio_N()
    ratio_N = log_ratio_N.exp()
    loss_N = -ratio_N * batch.advantages_N
    none = torch.zeros((), device=ratio_N.device)
    metrics = {"ratio_mean": ratio_N.detach().sum(), "clip_frac": none, "dual_clip_frac": none}
    if batch.marked_N is not None:
        loss_N = loss_N + settings.cov_kl_coef * torch.where(batch.marked_N, log_ratio_N.abs(), 0.0)
        metrics["marked_frac"] = batch.marked_N.sum()
    return loss_N, metrics


def token_covariance(logprobs_N: Tensor, advantages_N: Tensor) -> Tensor:
    """(logp - mean logp) (A - mean A) of each token [N], the means over all N (equation 10)."""
    return (logprobs_N - logprobs_N.mean()) * (advantages_N - advantages_N.mean())


def mark(covariance_N: Tensor, settings: Loss, generator: torch.Generator) -> Tensor:
    """Which tokens of a whole optimizer step are restrained [N], bool.

    Clip-Cov: a random cov_share of all tokens, from those within cov_range. KL-Cov (no cov_range): the cov_share of highest
    covariance. At least one token, where there is one to choose.
    """
    marked_N = torch.zeros(len(covariance_N), dtype=torch.bool)
    wanted = max(1, int(settings.cov_share * len(covariance_N)))
    if settings.cov_range is None:
        marked_N[covariance_N.topk(min(wanted, len(covariance_N))).indices] = True
        return marked_N
    low, high = settings.cov_range
    candidates = ((covariance_N > low) & (covariance_N < high)).nonzero().squeeze(1)
    marked_N[candidates[torch.randperm(len(candidates), generator=generator)[:wanted]]] = True
    return marked_N
