"""Unbiased pass@k (2107.03374) with a bootstrap interval over problems, and majority@k; both exact over all choices of k of n responses.

Rules of majority@k. Each response that gives an answer casts one vote; a response without an answer casts none. All right responses
vote for the reference. Wrong responses vote for the same answer if their texts are equal (numbers: if their values are). If several
answers share the most votes, each wins with equal chance, and the expectation is reported. If none of the k responses votes, the
majority is wrong.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import comb

import numpy as np
from numpy.typing import NDArray

Ways = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PassAtK:
    """pass@k averaged over problems, with the ends of its confidence interval."""

    k: int
    value: float
    low: float
    high: float


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return the probability that k of n samples, drawn without replacement, include a correct one: 1 - C(n - c, k) / C(n, k).

    Unbiased for k fresh samples. Needs 1 <= k <= n and 0 <= correct <= n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {max(k, 1)} samples of a problem, there are {n}")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct samples of {n}")
    return 1.0 - comb(n - correct, k) / comb(n, k)


def bootstrap_interval(values_P: NDArray[np.float64], level: float = 0.95, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the percentile interval of the mean over P problems, resampled with replacement.

    Problems are resampled, not samples: the choice of problems is the larger part of the uncertainty.
    """
    rng = np.random.default_rng(seed)
    # One draw at a time: [draws, P] indices of a large set would be hundreds of megabytes.
    means = [values_P[rng.integers(len(values_P), size=len(values_P))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_pass_at_k(correct_P: Sequence[int], n_P: Sequence[int], k: int, seed: int = 0) -> PassAtK:
    """Return pass@k of P problems with correct_P of n_P samples right, and its 95 % interval."""
    if not correct_P:
        raise ValueError("pass@k of no problems")
    values_P = np.array([pass_at_k(n, c, k) for n, c in zip(n_P, correct_P, strict=True)])
    low, high = bootstrap_interval(values_P, seed=seed)
    return PassAtK(k, float(values_P.mean()), low, high)


def majority_at_k(right: Sequence[bool], votes: Sequence[str | None], k: int) -> float:
    """Return the chance that the majority of k of these n responses, drawn without replacement, is right. `votes`: each one's answer.

    Needs 1 <= k <= n.
    """
    if not 1 <= k <= len(votes):
        raise ValueError(f"majority@{k} needs at least {max(k, 1)} responses of a prompt, there are {len(votes)}")
    rights = sum(right)
    wrong = Counter(vote for good, vote in zip(right, votes, strict=True) if not good)
    silent = wrong.pop(None, 0)
    return _chance(rights, tuple(sorted(wrong.values())), silent, k)


@cache
def _chance(rights: int, wrong: tuple[int, ...], silent: int, k: int) -> float:
    """Return majority@k for `rights` votes for the reference, wrong answers with these numbers of votes, and `silent` non-voters."""
    total = 0.0
    for most in range(1, min(rights, k) + 1):
        rest = k - most
        # ways[p, t]: choices of p of the other responses in which no wrong answer has more than `most` votes, and t have as many.
        ways = np.zeros((rest + 1, rest // most + 1))
        ways[0, 0] = 1.0
        for votes in wrong:
            ways = _add_answer(ways, votes, most)
        for silents in range(min(silent, rest) + 1):
            shares = ways[rest - silents] / np.arange(1, ways.shape[1] + 1)
            total += comb(rights, most) * comb(silent, silents) * float(shares.sum())
    return total / comb(rights + sum(wrong) + silent, k)


def _add_answer(ways: Ways, votes: int, most: int) -> Ways:
    """Extend `ways` by one more wrong answer, which has `votes` votes in all."""
    picked, tied = ways.shape
    out = np.zeros_like(ways)
    for chosen in range(min(votes, most, picked - 1) + 1):
        ties = int(chosen == most)
        if ties < tied:
            out[chosen:, ties:] += comb(votes, chosen) * ways[: picked - chosen, : tied - ties]
    return out
