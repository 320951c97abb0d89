"""How token losses become one number: a weight for each token, so that shares of micro-batches and ranks add up.

A weight's denominator is of the whole optimizer step, over all ranks: a mean of micro-batch means is another number.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from uec.algorithm.losses.token_batch import TokenBatch


@dataclass(frozen=True, slots=True)
class StepSize:
    """An optimizer step's size over all ranks."""

    tokens: int  # response tokens
    rows: int  # responses
    longest: int  # rollout.max_tokens: the constant of `seq-mean-token-sum-norm`


def token_weights(batch: TokenBatch, size: StepSize, aggregation: str) -> Tensor:
    """Weight of each token [N]; the sum of weighted losses is this micro-batch's share of the loss.

    token-mean: mean over all tokens (DAPO, 2503.14476). seq-mean-token-mean: mean over responses of their means (GRPO as
    first published, 2402.03300). seq-mean-token-sum: mean over responses of their sums. seq-mean-token-sum-norm: that by the longest
    response's length, a constant (Dr. GRPO, 2503.20783).
    """
    rows, tokens = max(1, size.rows), max(1, size.tokens)
    if aggregation == "seq-mean-token-mean":
        return 1 / (rows * batch.counts_B()[batch.row_N].to(batch.logprobs_N.dtype))
    scale = {"token-mean": 1 / tokens, "seq-mean-token-sum": 1 / rows, "seq-mean-token-sum-norm": 1 / (rows * size.longest)}[aggregation]
    return torch.full_like(batch.logprobs_N.detach(), scale)
