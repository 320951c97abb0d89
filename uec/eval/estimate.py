"""A mean over prompts with its bootstrap interval, alone and as the difference of two models on the same prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """What one model did on each of P prompts: a numerator and a denominator, of which the figure is the ratio of the sums.

    A mean over prompts has denominators of 1, one over tokens has each prompt's tokens.
    """

    sums_P: Floats
    weights_P: Floats

    @classmethod
    def of(cls, values: Sequence[float], weights: Sequence[float] | None = None) -> "Scores":
        """Of means with their weights; none: all alike."""
        values_P = np.asarray(values, np.float64)
        weights_P = np.ones_like(values_P) if weights is None else np.asarray(weights, np.float64)
        return cls(values_P * weights_P, weights_P)

    def at(self, places: Sequence[int]) -> "Scores":
        """Those of some of the prompts."""
        chosen = np.asarray(places, np.int64)
        return Scores(self.sums_P[chosen], self.weights_P[chosen])

    def ratio(self, counts_P: Floats | None = None) -> float:
        """The figure, where prompt p was drawn counts_P[p] times; none: once each. NaN where there is nothing to divide by."""
        counts_P = np.ones_like(self.sums_P) if counts_P is None else counts_P
        below = float(self.weights_P @ counts_P)
        return float(self.sums_P @ counts_P) / below if below else float("nan")


def estimate(scores: Scores, seed: int = 0) -> Estimate | None:
    """The figure with its interval: prompts are drawn with replacement, as many as there are. None without prompts."""
    return _bootstrap(len(scores.sums_P), scores.ratio, seed)


def difference(ours: Scores, theirs: Scores, seed: int = 0) -> Estimate | None:
    """Theirs less ours, on the same P prompts in the same order. Each draw takes the same prompts for both.

    What makes a prompt easy or hard for both cancels out: the interval is narrower than those of the two figures let expect.
    """
    if len(ours.sums_P) != len(theirs.sums_P):
        raise ValueError(f"{len(ours.sums_P)} prompts cannot be paired with {len(theirs.sums_P)}")
    return _bootstrap(len(ours.sums_P), lambda counts_P: theirs.ratio(counts_P) - ours.ratio(counts_P), seed)


def _bootstrap(prompts: int, figure: Callable[[Floats | None], float], seed: int) -> Estimate | None:
    value = figure(None) if prompts else float("nan")
    if not np.isfinite(value):
        return None
    rng = np.random.default_rng(seed)
    # One draw at a time: [draws, P] indices of a large set would be hundreds of megabytes.
    draws = [figure(np.bincount(rng.integers(prompts, size=prompts), minlength=prompts).astype(np.float64)) for _ in range(DRAWS)]
    # A draw may hold no prompt with a weight.
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
