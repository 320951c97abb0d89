"""The clipped surrogate of PPO and GRPO."""

import torch
from torch import Tensor

from uec.algorithm.losses.token_batch import Metrics, TokenBatch
from uec.config import Loss


def ppo_clip(batch: TokenBatch, settings: Loss) -> tuple[Tensor, Metrics]:
    """-J of each token [N]: rho = exp(logp - logp_old), J = min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A).

    For A < 0, J is not below dual_clip A. Sources: PPO (1707.06347) as in GRPO (2402.03300); dual clip 1912.09729,
    equation 5; clip_high above clip_low is DAPO's clip-higher (2503.14476).
    """
    return clipped_surrogate(batch.log_ratio_N().exp(), batch.advantages_N, settings)


def clipped_surrogate(ratio_N: Tensor, advantages_N: Tensor, settings: Loss) -> tuple[Tensor, Metrics]:
    """-J [N], and the sums `ratio_mean`, `clip_frac` (tokens whose gradient the clip cut off; being outside the range on the
    harmless side does not count) and `dual_clip_frac`."""
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
