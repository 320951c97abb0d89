"""Unbiased pass@k (2107.03374) with a bootstrap interval over problems."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PassAtK:
    """pass@k averaged over problems, with the ends of its confidence interval."""

    k: int
    value: float
    low: float
    high: float


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Probability that k of n samples, drawn without replacement, hold a correct one: 1 - C(n - c, k) / C(n, k).

    Unbiased for the chance that k fresh samples do. Needs 1 <= k <= n and 0 <= correct <= n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {max(k, 1)} samples of a problem, there are {n}")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct samples of {n}")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def bootstrap_interval(values_P: NDArray[np.float64], level: float = 0.95, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean over P problems, resampled with replacement.

    Over problems, not samples: which problems are in the set is the larger part of the uncertainty.
    """
    rng = np.random.default_rng(seed)
    # One draw at a time: [draws, P] indices of a large set would be hundreds of megabytes.
    means = [values_P[rng.integers(len(values_P), size=len(values_P))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_pass_at_k(correct_P: Sequence[int], n_P: Sequence[int], k: int, seed: int = 0) -> PassAtK:
    """pass@k of P problems with correct_P of n_P samples right, and its 95 % interval."""
    if not correct_P:
        raise ValueError("pass@k of no problems")
    values_P = np.array([pass_at_k(n, c, k) for n, c in zip(n_P, correct_P, strict=True)])
    low, high = bootstrap_interval(values_P, seed=seed)
    return PassAtK(k, float(values_P.mean()), low, high)
