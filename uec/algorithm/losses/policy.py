"""The policy losses: PPO's clipped surrogate, GSPO, CISPO, Clip-Cov and KL-Cov (2505.22617), and those of the user."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from uec.algorithm.losses.token_batch import Metrics, TokenBatch
from uec.config.schema import LossConfig
from uec.errors import RunFailed
from uec.system.user_code import load_function


def ppo_clip(batch: TokenBatch, settings: LossConfig) -> tuple[Tensor, Metrics]:
    """Return -J of each token [N], J = min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) with rho = exp(logp - logp_old).

    For A < 0, J is not below dual_clip A. Sources: PPO (1707.06347) as in GRPO (2402.03300); dual clip 1912.09729,
    equation 5; clip_high above clip_low is DAPO's clip-higher (2503.14476).
    """
    return clipped_surrogate(batch.log_ratio_N().exp(), batch.advantages_N, settings)


def clipped_surrogate(ratio_N: Tensor, advantages_N: Tensor, settings: LossConfig) -> tuple[Tensor, Metrics]:
    """Return -J [N], and the sums `ratio_mean`, `clip_frac` and `dual_clip_frac`.

    `clip_frac` counts the tokens whose gradient the clip removes, not those outside the range whose gradient stays.
    """
    free_N = ratio_N * advantages_N
    clipped_N = ratio_N.clamp(1 - settings.clip_low, 1 + settings.clip_high) * advantages_N
    objective_N = torch.minimum(free_N, clipped_N)
    floored = torch.zeros((), device=ratio_N.device)
    if settings.dual_clip is not None:
        floor_N = torch.where(advantages_N < 0, settings.dual_clip * advantages_N, -torch.inf)
        floored = (objective_N < floor_N).sum()
        objective_N = torch.maximum(objective_N, floor_N)
    metrics = {
        "ratio_mean": ratio_N.detach().sum(),
        "clip_frac": (clipped_N < free_N).sum(),
        "dual_clip_frac": floored,
    }
    return -objective_N, metrics


def gspo(batch: TokenBatch, settings: LossConfig) -> tuple[Tensor, Metrics]:
    """Return -min(s A, clip(s) A) of each token's response [N], s = exp(mean_t(logp - logp_old)) (2507.18071, equations 5 and 7).

    All tokens of a response have the same value, so that the paper's aggregation, `seq-mean-token-mean`, gives the paper's gradient.
    Clip ranges are far narrower than those of a token's ratio: 3e-4 and 4e-4 in the paper.
    """
    return clipped_surrogate(batch.row_mean_N(batch.log_ratio_N()).exp(), batch.advantages_N, settings)


def cispo(batch: TokenBatch, settings: LossConfig) -> tuple[Tensor, Metrics]:
    """Return -stop_grad(clip(rho, 1 - clip_low, 1 + clip_high)) A logp of each token [N] (2506.13585, equation 4).

    The paper clips only from above (clip_low = 1). `clip_frac` counts the tokens whose weight the clip changes.
    """
    ratio_N = batch.log_ratio_N().detach().exp()
    weight_N = ratio_N.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    metrics = {
        "ratio_mean": ratio_N.sum(),
        "clip_frac": (weight_N != ratio_N).sum(),
        "dual_clip_frac": torch.zeros((), device=ratio_N.device),
    }
    return -weight_N * batch.advantages_N * batch.logprobs_N, metrics


def clip_cov(batch: TokenBatch, settings: LossConfig) -> tuple[Tensor, Metrics]:
    """Return PPO's clipped surrogate [N] without the gradient of the marked tokens (2505.22617, equation 11).

    `mark` chooses a random share of the tokens whose covariance lies in `loss.cov_range`.
    """
    loss_N, metrics = ppo_clip(batch, settings)
    if batch.marked_N is not None:
        loss_N = torch.where(batch.marked_N, 0.0, loss_N)
        metrics["marked_frac"] = batch.marked_N.sum()
    return loss_N, metrics


def kl_cov(batch: TokenBatch, settings: LossConfig) -> tuple[Tensor, Metrics]:
    """Return -rho A [N] without a clip, plus cov_kl_coef |logp - logp_old| at the marked tokens (2505.22617, equation 13).

    `mark` chooses the tokens of highest covariance. The penalty needs several optimizer steps per batch: in the first, logp equals
    logp_old and the penalty has no gradient.
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
    """Return (logp - mean logp) (A - mean A) of each token [N], with means over all N (2505.22617, equation 10)."""
    return (logprobs_N - logprobs_N.mean()) * (advantages_N - advantages_N.mean())


def mark(covariance_N: Tensor, settings: LossConfig, generator: torch.Generator) -> Tensor:
    """Return which tokens of a whole optimizer step Clip-Cov or KL-Cov restrains [N], bool.

    Clip-Cov takes a random cov_share of all tokens from those within cov_range. KL-Cov (no cov_range) takes the cov_share of highest
    covariance. Both take at least one token if there is a candidate.
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


PolicyLoss = Callable[[TokenBatch, LossConfig], tuple[Tensor, Metrics]]

BUILTIN: dict[str, PolicyLoss] = {"ppo_clip": ppo_clip, "gspo": gspo, "cispo": cispo, "clip_cov": clip_cov, "kl_cov": kl_cov}
MARKING = ("clip_cov", "kl_cov")
"""The losses that read `TokenBatch.marked_N`, which is chosen over the tokens of a whole optimizer step."""
METRICS = ("ratio_mean", "clip_frac", "dual_clip_frac", "marked_frac")
"""The sums that a policy loss may return; they become `policy/` metrics."""


def load_policy_loss(name: str) -> PolicyLoss:
    """Return the function that `loss.policy` names. Raises BadInput."""
    if name in BUILTIN:
        return BUILTIN[name]
    wanted = "def NAME(batch: TokenBatch, settings: LossConfig) -> tuple[Tensor, dict]"
    function = load_function("loss.policy", name, tuple(BUILTIN), wanted, 2)

    def checked(batch: TokenBatch, settings: LossConfig) -> tuple[Tensor, Metrics]:
        return _checked(name, function(batch, settings), len(batch.logprobs_N))

    return checked


def _checked(name: str, found: Any, tokens: int) -> tuple[Tensor, Metrics]:
    """Return the result of a user's policy loss. Raises RunFailed if it is not one loss per token, or has sums that are no metric."""
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor) and isinstance(found[1], dict)):
        raise RunFailed(f"loss.policy={name} returned {type(found).__name__}, not (loss of each token [N], sums by name)")
    loss_N, sums = found
    if loss_N.shape != (tokens,):
        raise RunFailed(
            f"loss.policy={name} returned a loss of shape {list(loss_N.shape)} for {tokens} tokens; it has to be one number a token, "
            "[N]: loss.aggregation makes the mean"
        )
    unknown = [str(key) for key in sums if key not in METRICS]
    if unknown:
        raise RunFailed(f"loss.policy={name} returned {', '.join(unknown)}, which is no metric; it may return {', '.join(METRICS)}")
    return loss_N, sums
