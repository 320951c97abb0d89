"""Selective retention (2604.14646): which responses of a prompt are trained on, and with what advantage."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from uec.algorithm.advantage import Advantages, group_advantage, joint_advantage
from uec.config import Config, Exploration, Retention
from uec.types import Group, Trajectory

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Retained:
    """What is kept of one prompt's responses; the counts are of responses, for the `retain/` metrics."""

    kept: list[Trajectory]  # with advantages, regular ones first, in their groups' order
    regular: int
    exploration: int
    overlong_dropped: int  # would have been kept, but are truncated with A > 0
    zero_std: bool  # the regular responses all have the same reward


def keep_regular(advantages_G: Advantages, retention: Retention) -> Mask:
    """|A| > min_abs_advantage (paper 0, which means A != 0; released code .05)."""
    return np.abs(advantages_G) > retention.min_abs_advantage


def keep_exploration(advantages_H: Advantages, exploration: Exploration) -> Mask:
    """`positive`: A > 0 (paper). `informative`: |A| > threshold, on both sides (released code)."""
    if exploration.keep == "positive":
        return advantages_H > 0
    return np.abs(advantages_H) > exploration.threshold


def overlong_positive(advantages_N: Advantages, truncated_N: Mask, retention: Retention) -> Mask:
    """Truncated with A > 0, where those are to be dropped: reinforcing them teaches the model to ramble."""
    return truncated_N & (advantages_N > 0) & retention.drop_overlong_positive


def retain(regular: Group, exploration: Group | None, cfg: Config) -> Retained:
    """Advantages and retention of one prompt's finished groups (algorithm, steps 2, 4 and 5).

    `exploration.group: own` normalises the G regular and the G' exploration responses each among themselves, so the
    all-wrong regular group of a difficult prompt gets A = 0 and is dropped. With `joint` all G + G' share one mean and
    std, and the *regular* ones get their advantage from it too: they are samples of the same prompt against the same
    baseline, so once exploration has found a solution, the regular failures are what it is better than (A < 0, kept).
    Taking the joint figure for exploration only would train on advantages that do not sum to 0.
    """
    rewards_G = [t.score.reward for t in regular.trajectories]
    own_G = group_advantage(rewards_G)
    if exploration is None:
        kept, dropped = _select(regular, own_G, keep_regular(own_G, cfg.retention), cfg.retention)
        return Retained(kept, len(kept), 0, dropped, not own_G.any())
    rewards_H = [t.score.reward for t in exploration.trajectories]
    if cfg.exploration.group == "joint":
        advantages_G, advantages_H = joint_advantage(rewards_G, rewards_H)
    else:
        advantages_G, advantages_H = own_G, group_advantage(rewards_H)
    kept_G, dropped_G = _select(regular, advantages_G, keep_regular(advantages_G, cfg.retention), cfg.retention)
    kept_H, dropped_H = _select(exploration, advantages_H, keep_exploration(advantages_H, cfg.exploration), cfg.retention)
    return Retained(kept_G + kept_H, len(kept_G), len(kept_H), dropped_G + dropped_H, not own_G.any())


def _select(group: Group, advantages_N: Advantages, wanted_N: Mask, retention: Retention) -> tuple[list[Trajectory], int]:
    """The wanted trajectories without overlong positives, and how many of the wanted those were."""
    truncated_N = np.array([t.score.truncated for t in group.trajectories], dtype=bool)
    overlong_N = wanted_N & overlong_positive(advantages_N, truncated_N, retention)
    kept_N = wanted_N & ~overlong_N
    kept = [
        replace(trajectory, advantage=advantage)
        for trajectory, advantage, keep in zip(group.trajectories, advantages_N.tolist(), kept_N.tolist(), strict=True)
        if keep
    ]
    return kept, int(np.count_nonzero(overlong_N))
