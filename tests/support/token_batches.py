"""Small batches of tokens for the tests of the losses: written by hand, or drawn at random."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uec.algorithm.losses.objective import StepSize, objective
from uec.algorithm.losses.policy import PolicyLoss
from uec.algorithm.losses.token_batch import TokenBatch
from uec.config.schema import LossConfig

OLD = -2.0
"""log pi_old of every token of `by_ratio`."""


def doubles(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def by_ratio(ratios: Sequence[float], advantages: Sequence[float], counts: Sequence[int] | None = None, **more: Any) -> TokenBatch:
    """Tokens with these ratios pi / pi_old, in responses of `counts` tokens; by default a response a token."""
    counts = [1] * len(ratios) if counts is None else counts
    old_N = torch.full((len(ratios),), OLD, dtype=torch.float64)
    logprobs_N = (old_N + doubles(ratios).log()).requires_grad_()
    row_N = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return TokenBatch(logprobs_N, old_N, doubles(advantages), row_N, len(counts), **more)


def gradient(loss: Tensor, batch: TokenBatch) -> list[float]:
    """d loss / d log pi of each token."""
    (gradient_N,) = torch.autograd.grad(loss.sum(), batch.logprobs_N, retain_graph=True)
    return gradient_N.tolist()


@dataclass(frozen=True)
class Drawn:
    """B random responses of 0 to 6 tokens, with ratios on both sides of every clip range, in float64."""

    batch: TokenBatch
    counts: list[int]
    size: StepSize

    def rows(self, chosen: Sequence[int]) -> tuple[TokenBatch, Tensor]:
        """A micro-batch of these responses, and the indices of its tokens in the whole."""
        batch = self.batch
        places = [(batch.row_N == row).nonzero().squeeze(1) for row in chosen]
        index_M = torch.cat(places) if places else torch.zeros(0, dtype=torch.int64)
        row_M = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor([self.counts[row] for row in chosen], dtype=torch.int64))
        optional = ("entropies_N", "reference_N", "behaviour_weights_N", "marked_N")
        parts = {name: None if getattr(batch, name) is None else getattr(batch, name)[index_M] for name in optional}
        micro = replace(
            batch,
            logprobs_N=batch.logprobs_N[index_M],
            old_N=batch.old_N[index_M],
            advantages_N=batch.advantages_N[index_M],
            row_N=row_M,
            rows=max(1, len(chosen)),
            **parts,
        )
        return micro, index_M


def drawn(seed: int, counts: list[int], parts: bool = True) -> Drawn:
    """Random tokens; with `parts` also entropies, a reference, weights and marks."""
    rng = np.random.default_rng(seed)
    tokens = sum(counts)
    old_N = -rng.exponential(1.5, tokens)
    new_N = old_N + rng.choice([1e-4, 0.2, 1.5], tokens) * rng.standard_normal(tokens)
    advantages_B = 1.5 * rng.standard_normal(len(counts))
    more: dict[str, Tensor] = {}
    if parts:
        more = {
            "entropies_N": torch.from_numpy(rng.exponential(0.7, tokens)),
            "reference_N": torch.from_numpy(new_N + 0.3 * rng.standard_normal(tokens)),
            "behaviour_weights_N": torch.from_numpy(rng.uniform(0.2, 2.0, tokens)),
            "marked_N": torch.from_numpy(rng.random(tokens) < 0.3),
        }
    row_N = np.repeat(np.arange(len(counts)), counts)
    new = torch.from_numpy(new_N).requires_grad_()
    batch = TokenBatch(new, torch.from_numpy(old_N), torch.from_numpy(advantages_B[row_N]), torch.from_numpy(row_N), len(counts), **more)
    return Drawn(batch, counts, StepSize(tokens, len(counts), longest=6))


def shares(data: Drawn, split: list[list[int]], policy_loss: PolicyLoss, settings: LossConfig) -> tuple[float, Tensor, dict[str, float]]:
    """What micro-batches of these responses add up to: loss, gradient to the whole's log-probabilities, metric sums."""
    total, gradient_N, sums = 0.0, torch.zeros_like(data.batch.logprobs_N), {}
    for chosen in split:
        micro, _ = data.rows(chosen)
        loss, metrics = objective(micro, policy_loss, settings, data.size)
        gradient_N = gradient_N + torch.autograd.grad(loss, data.batch.logprobs_N)[0]
        total += loss.item()
        sums = {name: sums.get(name, 0.0) + float(value) for name, value in metrics.items()}
    return total, gradient_N, sums
