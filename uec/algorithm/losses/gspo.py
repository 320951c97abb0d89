"""GSPO: the clip acts on whole responses."""

from torch import Tensor

from uec.algorithm.losses.ppo import clipped_surrogate
from uec.algorithm.losses.token_batch import Metrics, TokenBatch
from uec.config import Loss


def gspo(batch: TokenBatch, settings: Loss) -> tuple[Tensor, Metrics]:
    """-min(s A, clip(s) A) of each token's response [N], s = exp(mean_t(logp - logp_old)) (2507.18071, equations 5 and 7).

    The same figure stands at each token of a response, so that `seq-mean-token-mean`, the paper's aggregation, gives the
    paper's gradient. Clip ranges are far narrower than a token ratio's: 3e-4 and 4e-4 in the paper.
    """
    return clipped_surrogate(batch.row_mean_N(batch.log_ratio_N()).exp(), batch.advantages_N, settings)
