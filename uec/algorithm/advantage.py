"""Advantages: one number for each response, the same for all its tokens.

An estimator maps the rewards of all groups of a step, a list of [G], to their advantages, a list of [G]. Most estimators use
one group at a time. `exploration.group: joint` makes one group of a prompt's regular and exploration responses.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uec.errors import RunFailed
from uec.system.user_code import describe_error, load_function

Advantages = NDArray[np.float64]
Rewards = NDArray[np.float64]
Estimator = Callable[[list[Rewards]], list[Advantages]]

ROUNDING = 1e-9
"""Rewards closer to their mean than this count as equal to it: the mean of equal rewards has a rounding error of about 1e-17."""


def group(rewards: list[Rewards]) -> list[Advantages]:
    """Return (R - mean) / (std + 1e-6) with the group's unbiased std (n - 1) (GRPO, 2402.03300); 0 for a group of one."""
    return [_by_std(_centred(rewards_G)) for rewards_G in rewards]


def centred(rewards: list[Rewards]) -> list[Advantages]:
    """Return R - mean of the group (Dr. GRPO, 2503.20783): the std would weight very easy and very hard prompts more."""
    return [_centred(rewards_G) for rewards_G in rewards]


def rloo(rewards: list[Rewards]) -> list[Advantages]:
    """Return R - mean of the group's *other* rewards, n / (n - 1) (R - mean) (RLOO, 2402.14740, equation 8); 0 for a group of one."""
    return [_centred(rewards_G) * len(rewards_G) / max(1, len(rewards_G) - 1) for rewards_G in rewards]


def batch(rewards: list[Rewards]) -> list[Advantages]:
    """Return (R - mean) / (std + 1e-6) over all responses of the step, without a baseline per prompt (REINFORCE++, 2501.03262)."""
    if not rewards:
        return []
    joined = _by_std(_centred(np.concatenate(rewards)))
    return np.split(joined, np.cumsum([len(rewards_G) for rewards_G in rewards])[:-1])


def batch_with_baseline(rewards: list[Rewards]) -> list[Advantages]:
    """Return R - mean of the group, normalised over the step (REINFORCE++-baseline, 2501.03262, section 3)."""
    return batch(centred(rewards))


BUILTIN: dict[str, Estimator] = {
    "group": group,
    "centred": centred,
    "rloo": rloo,
    "batch": batch,
    "batch_with_baseline": batch_with_baseline,
}


def load_estimator(name: str) -> Estimator:
    """Return the function that `advantage.estimator` names: built in, `path/to/file.py:name` or `package.module:name`. Raises BadInput."""
    if name in BUILTIN:
        return BUILTIN[name]
    function = load_function("advantage.estimator", name, tuple(BUILTIN), "def NAME(rewards: list[array]) -> list[array]", 1)

    def checked(rewards: list[Rewards]) -> list[Advantages]:
        try:
            found = function(rewards)
        except Exception as error:
            raise RunFailed(f"advantage.estimator={name} raised {describe_error(error, function.__code__.co_filename)}") from error
        return _checked(name, found, rewards)

    return checked


def as_rewards(rewards_G: Sequence[float]) -> Rewards:
    """Return a group's rewards as an array. Raises RunFailed for a reward that is not finite."""
    rewards = np.asarray(rewards_G, dtype=np.float64)
    if not np.isfinite(rewards).all():
        raise RunFailed(f"a group has a reward that is not a finite number: {rewards.tolist()}")
    return rewards


def _centred(rewards_G: Rewards) -> Rewards:
    """Return R - mean; it is exactly 0 where the rewards are equal."""
    if len(rewards_G) == 0:
        return rewards_G
    centred_G = rewards_G - rewards_G.mean()
    centred_G[np.abs(centred_G) < ROUNDING] = 0.0
    return centred_G


def _by_std(centred_G: Rewards) -> Advantages:
    if len(centred_G) < 2:
        return np.zeros_like(centred_G)
    return centred_G / (math.sqrt(centred_G @ centred_G / (len(centred_G) - 1)) + 1e-6)


def _checked(name: str, found: Any, rewards: list[Rewards]) -> list[Advantages]:
    """Return the result of a user's estimator as arrays. Raises RunFailed if a shape is wrong or a value is not finite."""
    try:
        advantages = [np.asarray(advantages_G, dtype=np.float64) for advantages_G in found]
    except (TypeError, ValueError) as error:
        raise RunFailed(f"advantage.estimator={name} returned {type(found).__name__}, not a list of arrays: {error}") from error
    if [a.shape for a in advantages] != [r.shape for r in rewards]:
        raise RunFailed(
            f"advantage.estimator={name} returned shapes {[a.shape for a in advantages][:4]}, expected those of the rewards, "
            f"{[r.shape for r in rewards][:4]}"
        )
    if not all(np.isfinite(a).all() for a in advantages):
        raise RunFailed(f"advantage.estimator={name} returned an advantage that is not a finite number")
    return advantages
