"""Group-relative advantages (GRPO, 2402.03300): one number a response, the same for each of its tokens."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uec.errors import RunFailed

Advantages = NDArray[np.float64]

ROUNDING = 1e-9
"""Rewards this close to their mean equal it: the mean of equal weighted sums is off by some 1e-17, which must not become an advantage."""


def group_advantage(rewards_G: Sequence[float]) -> Advantages:
    """(R - mean) / (std + 1e-6) with the unbiased std (n - 1): [G].

    Equal rewards give exactly 0, and so does a group of one. A reward that is not finite raises RunFailed.
    """
    rewards = np.asarray(rewards_G, dtype=np.float64)
    if not np.isfinite(rewards).all():
        raise RunFailed(f"a group has a reward that is not a finite number: {rewards.tolist()}")
    if len(rewards) < 2:
        return np.zeros_like(rewards)
    centred = rewards - rewards.mean()
    centred[np.abs(centred) < ROUNDING] = 0.0
    return centred / (math.sqrt(centred @ centred / (len(rewards) - 1)) + 1e-6)


def joint_advantage(regular_G: Sequence[float], exploration_H: Sequence[float]) -> tuple[Advantages, Advantages]:
    """`group_advantage` over all G + G' rewards of a prompt, split again: [G], [G']."""
    advantages = group_advantage([*regular_G, *exploration_H])
    return advantages[: len(regular_G)], advantages[len(regular_G) :]
