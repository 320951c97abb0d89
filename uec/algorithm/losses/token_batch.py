"""What every loss reads: the figures of one micro-batch's response tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

Metrics = dict[str, Tensor]
"""Sums over tokens, detached scalars by name: add over micro-batches and ranks, then divide by the count of tokens."""

LOG_RATIO_MAX = 20.0
"""exp of more is no longer a finite gradient in float32; the surrogate is far outside its clip range there."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """N response tokens of B responses, one response after the other. Log-probabilities and entropies in nats."""

    logprobs_N: Tensor  # of the policy that is trained, with gradient
    old_N: Tensor  # of the policy before the first optimizer step on this batch, or of the time of sampling
    advantages_N: Tensor
    row_N: Tensor  # int64, the response of each token, 0 .. B-1
    rows: int  # B
    entropies_N: Tensor | None = None  # true entropies; with gradient where loss.entropy_coef is above 0
    reference_N: Tensor | None = None  # log-probabilities of the start model
    behaviour_weights_N: Tensor | None = None  # importance weights of `behaviour.py`, no gradient
    marked_N: Tensor | None = None  # bool: chosen by their covariance, over the whole optimizer step

    def log_ratio_N(self) -> Tensor:
        """log pi - log pi_old, bounded so that its exp has a finite gradient."""
        return (self.logprobs_N - self.old_N.detach()).clamp(-LOG_RATIO_MAX, LOG_RATIO_MAX)

    def counts_B(self) -> Tensor:
        """Tokens of each response, at least 1 so that one may divide by it."""
        return torch.bincount(self.row_N, minlength=self.rows).clamp(min=1)

    def row_mean_N(self, values_N: Tensor) -> Tensor:
        """Each token's value becomes the mean over its response."""
        sums_B = torch.zeros(self.rows, dtype=values_N.dtype, device=values_N.device).index_add(0, self.row_N, values_N)
        return (sums_B / self.counts_B())[self.row_N]

    def left_to_go_N(self, values_N: Tensor) -> Tensor:
        """Sum of the values from each token to the end of its response, its own included."""
        ahead_N = values_N.flip(0).cumsum(0).flip(0)  # to the end of the batch
        totals_B = torch.zeros(self.rows, dtype=values_N.dtype, device=values_N.device).index_add(0, self.row_N, values_N)
        later_B = totals_B.flip(0).cumsum(0).flip(0) - totals_B  # of the responses behind one
        return ahead_N - later_B[self.row_N]
