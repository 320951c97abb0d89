"""Means over prompts with bootstrap intervals, and paired differences between two models on the same prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PromptValues:
    """One model's values on P prompts, as a numerator and a weight for each; their mean is the ratio of the two sums.

    A mean over prompts has weights of 1. A mean over tokens has the prompts' token counts as weights.
    """

    sums_P: Floats
    weights_P: Floats

    @classmethod
    def of(cls, values: Sequence[float], weights: Sequence[float] | None = None) -> "PromptValues":
        """Return the values of means with their weights; without weights all are equal."""
        values_P = np.asarray(values, np.float64)
        weights_P = np.ones_like(values_P) if weights is None else np.asarray(weights, np.float64)
        return cls(values_P * weights_P, weights_P)

    def mean(self, counts_P: Floats | None = None) -> float:
        """Return the mean if prompt p is drawn counts_P[p] times (default: once each). NaN if the weights sum to 0."""
        counts_P = np.ones_like(self.sums_P) if counts_P is None else counts_P
        weight = float(self.weights_P @ counts_P)
        return float(self.sums_P @ counts_P) / weight if weight else float("nan")


def estimate(values: PromptValues, seed: int = 0) -> Estimate | None:
    """Return the mean with its bootstrap interval: P prompts are drawn with replacement. None without prompts."""
    return _bootstrap(len(values.sums_P), values.mean, seed)


def difference(ours: PromptValues, theirs: PromptValues, seed: int = 0) -> Estimate | None:
    """Return theirs minus ours, on the same P prompts in the same order. Each draw takes the same prompts for both.

    The difficulty that both share cancels out, so the interval is narrower than those of the two means suggest.
    """
    if len(ours.sums_P) != len(theirs.sums_P):
        raise ValueError(f"{len(ours.sums_P)} prompts cannot be paired with {len(theirs.sums_P)}")
    return _bootstrap(len(ours.sums_P), lambda counts_P: theirs.mean(counts_P) - ours.mean(counts_P), seed)


def _bootstrap(prompts: int, statistic: Callable[[Floats | None], float], seed: int) -> Estimate | None:
    value = statistic(None) if prompts else float("nan")
    if not np.isfinite(value):
        return None
    rng = np.random.default_rng(seed)
    # One draw at a time: [draws, P] indices of a large set would be hundreds of megabytes.
    draws = [statistic(np.bincount(rng.integers(prompts, size=prompts), minlength=prompts).astype(np.float64)) for _ in range(DRAWS)]
    # A draw may hold no prompt with a weight.
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
