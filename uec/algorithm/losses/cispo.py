"""CISPO: the clip bounds a token's weight, and no token loses its gradient."""

import torch
from torch import Tensor

from uec.algorithm.losses.token_batch import Metrics, TokenBatch
from uec.config import Loss


def cispo(batch: TokenBatch, settings: Loss) -> tuple[Tensor, Metrics]:
    """-stop_grad(clip(rho, 1 - clip_low, 1 + clip_high)) A logp of each token [N] (2506.13585, equation 4).

    The paper clips from above only: clip_low 1. `clip_frac` counts the tokens whose weight was changed.
    """
    ratio_N = batch.log_ratio_N().detach().exp()
    weight_N = ratio_N.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    metrics = {
        "ratio_mean": ratio_N.sum(),
        "clip_frac": (weight_N != ratio_N).sum(),
        "dual_clip_frac": torch.zeros((), device=ratio_N.device),
    }
    return -weight_N * batch.advantages_N * batch.logprobs_N, metrics
