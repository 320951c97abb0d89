"""majority@k: is the answer that most of k responses give right? Exact over all choices of k of a prompt's n responses.

The rules. Each response that gives an answer casts one vote, one that gives none (no box, nothing behind the marker) casts none. All
responses that were graded right vote for one answer, the reference; wrong ones vote for the same answer if their texts are the same
(numbers: if their values are). Of answers that share the most votes each is taken with equal chance: the expectation over that is what
is reported. If none of the k responses votes, the majority is wrong.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from math import comb

import numpy as np
from numpy.typing import NDArray

Ways = NDArray[np.float64]


def majority_at_k(right: Sequence[bool], votes: Sequence[str | None], k: int) -> float:
    """Chance that the majority of k responses, drawn without replacement from these n, is right. `votes`: each one's answer.

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
    """For `rights` votes for the reference, wrong answers of so many votes each, and `silent` responses without a vote."""
    total = 0.0
    for most in range(1, min(rights, k) + 1):
        rest = k - most
        # ways[p, t]: choices of p of the other responses in which no wrong answer has more than `most` votes, and t have as many.
        ways = np.zeros((rest + 1, rest // most + 1))
        ways[0, 0] = 1.0
        for votes in wrong:
            ways = _with(ways, votes, most)
        for silents in range(min(silent, rest) + 1):
            shares = ways[rest - silents] / np.arange(1, ways.shape[1] + 1)
            total += comb(rights, most) * comb(silent, silents) * float(shares.sum())
    return total / comb(rights + sum(wrong) + silent, k)


def _with(ways: Ways, votes: int, most: int) -> Ways:
    """`ways` with one more wrong answer, that has `votes` votes in all."""
    picked, tied = ways.shape
    out = np.zeros_like(ways)
    for chosen in range(min(votes, most, picked - 1) + 1):
        ties = int(chosen == most)
        if ties < tied:
            out[chosen:, ties:] += comb(votes, chosen) * ways[: picked - chosen, : tied - ties]
    return out
