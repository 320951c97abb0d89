"""The values of one micro-batch's response tokens that every loss reads."""

from dataclasses import dataclass

import torch
from torch import Tensor

Metrics = dict[str, Tensor]
"""Sums over tokens, detached scalars by name. Add them over micro-batches and ranks, then divide by the number of tokens."""

LOG_RATIO_MAX = 20.0
"""Bound of log ratios: exp of much larger ones has no finite gradient in float32. It is far outside every clip range."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """N response tokens of B responses, one response after the other. Log-probabilities and entropies are in nats."""

    logprobs_N: Tensor  # of the policy that is trained, with gradient
    old_N: Tensor  # of the policy before the first optimizer step on this batch, or of the time of sampling
    advantages_N: Tensor
    row_N: Tensor  # int64, the response of each token, 0 .. B-1
    rows: int  # B
    entropies_N: Tensor | None = None  # true entropies; with gradient where loss.entropy_coef is above 0
    reference_N: Tensor | None = None  # log-probabilities of the initial model
    behaviour_weights_N: Tensor | None = None  # importance weights (`behaviour_weights`), no gradient
    marked_N: Tensor | None = None  # bool: chosen by their covariance, over the whole optimizer step

    def log_ratio_N(self) -> Tensor:
        """Return log pi - log pi_old, bounded so that its exp has a finite gradient."""
        return (self.logprobs_N - self.old_N.detach()).clamp(-LOG_RATIO_MAX, LOG_RATIO_MAX)

    def counts_B(self) -> Tensor:
        """Return the number of tokens of each response, at least 1, because it is a divisor."""
        return torch.bincount(self.row_N, minlength=self.rows).clamp(min=1)

    def row_mean_N(self, values_N: Tensor) -> Tensor:
        """Return, for each token, the mean of the values over its response."""
        sums_B = torch.zeros(self.rows, dtype=values_N.dtype, device=values_N.device).index_add(0, self.row_N, values_N)
        return (sums_B / self.counts_B())[self.row_N]

    def left_to_go_N(self, values_N: Tensor) -> Tensor:
        """Return the sum of the values from each token (included) to the end of its response."""
        ahead_N = values_N.flip(0).cumsum(0).flip(0)  # to the end of the batch
        totals_B = torch.zeros(self.rows, dtype=values_N.dtype, device=values_N.device).index_add(0, self.row_N, values_N)
        later_B = totals_B.flip(0).cumsum(0).flip(0) - totals_B  # of the responses behind each one
        return ahead_N - later_B[self.row_N]
