"""Selective retention (2604.14646): which responses of a step are trained on, and with what advantage."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from uec.algorithm.advantage import Advantages, Estimator, as_rewards
from uec.config.schema import Config, ExplorationConfig, RetentionConfig
from uec.types import Group, Spent, Trajectory

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PromptRollouts:
    """All that one prompt gave in a step."""

    regular: Group
    exploration: Group | None
    difficult: bool

    @property
    def trajectories(self) -> list[Trajectory]:
        return [*self.regular.trajectories, *(self.exploration.trajectories if self.exploration else [])]

    @property
    def uninformative(self) -> bool:
        """Every response has the same reward: nothing to learn from."""
        return uniform(self.trajectories)


def uniform(trajectories: list[Trajectory]) -> bool:
    """Every response has the same reward."""
    return len({t.score.reward for t in trajectories}) == 1


@dataclass(frozen=True, slots=True)
class StepRollouts:
    """All of a step's rollouts: steps 1 to 4 of the algorithm."""

    prompts: list[PromptRollouts]
    exploring: bool
    spent: Spent  # on them


@dataclass(frozen=True, slots=True)
class KeptResponses:
    """What is kept of one prompt's responses; the counts are of responses, for the `retain/` metrics."""

    kept: list[Trajectory]  # with advantages, regular ones first, in their groups' order
    regular: int
    exploration: int
    overlong_dropped: int  # would have been kept, but are truncated with A > 0


def keep_regular(advantages_G: Advantages, retention: RetentionConfig) -> Mask:
    """|A| > min_abs_advantage (paper 0, which means A != 0; released code .05); none: all."""
    if retention.min_abs_advantage is None:
        return np.ones(len(advantages_G), dtype=bool)
    return np.abs(advantages_G) > retention.min_abs_advantage


def keep_exploration(advantages_H: Advantages, exploration: ExplorationConfig) -> Mask:
    """`positive`: A > 0 (paper). `informative`: |A| > threshold, on both sides (released code)."""
    if exploration.keep == "positive":
        return advantages_H > 0
    return np.abs(advantages_H) > exploration.threshold


def overlong_positive(advantages_N: Advantages, truncated_N: Mask, retention: RetentionConfig) -> Mask:
    """Truncated with A > 0, where those are to be dropped: reinforcing them teaches the model to ramble."""
    return truncated_N & (advantages_N > 0) & retention.drop_overlong_positive


def advantages(prompts: list[PromptRollouts], cfg: Config, estimator: Estimator) -> list[tuple[Advantages, Advantages]]:
    """Advantages of each prompt's regular [G] and exploration [G'] responses; [0] without exploration.

    `exploration.group: own` makes the G regular and the G' exploration responses two groups, so the all-wrong regular group of a
    difficult prompt gets A = 0 and is dropped. With `joint` all G + G' are one group, and the *regular* ones get their
    advantage from it too: they are samples of the same prompt against the same baseline, so once exploration has found a
    solution, the regular failures are what it is better than (A < 0, kept). Taking the joint figure for exploration only would
    train on advantages that do not sum to 0.

    The estimator sees no empty group, and is not asked at all where there is no prompt (dynamic sampling found none).
    """
    joint = cfg.exploration.group == "joint"
    groups: list[NDArray[np.float64]] = []
    for prompt in prompts:
        of_prompt = [_rewards(group) for group in (prompt.regular, prompt.exploration) if group is not None]
        groups += [np.concatenate(of_prompt)] if joint else of_prompt
    found = iter(estimator(groups) if groups else [])
    pairs = []
    for prompt in prompts:
        first, count = next(found), len(prompt.regular.trajectories)
        pairs.append((first[:count], first[count:] if joint or prompt.exploration is None else next(found)))
    return pairs


def retain(prompts: list[PromptRollouts], cfg: Config, estimator: Estimator) -> list[KeptResponses]:
    """Advantages and retention of a step's finished groups (algorithm, steps 2, 4 and 5).

    With dynamic sampling, uninformative prompts have no part in it: others have taken their place.
    """
    if cfg.dynamic_sampling.enabled:
        prompts = [prompt for prompt in prompts if not prompt.uninformative]
    retained = []
    for prompt, (advantages_G, advantages_H) in zip(prompts, advantages(prompts, cfg, estimator), strict=True):
        kept_G, dropped_G = _select(prompt.regular, advantages_G, keep_regular(advantages_G, cfg.retention), cfg.retention)
        kept_H: list[Trajectory] = []
        dropped_H = 0
        if prompt.exploration is not None:
            wanted_H = keep_exploration(advantages_H, cfg.exploration)
            kept_H, dropped_H = _select(prompt.exploration, advantages_H, wanted_H, cfg.retention)
        if cfg.retention.subset is not None:
            kept_G = balanced(kept_G, cfg.retention.subset, cfg.difficulty.solved_at)
        retained.append(KeptResponses(kept_G + kept_H, len(kept_G), len(kept_H), dropped_G + dropped_H))
    return retained


def balanced(kept: list[Trajectory], n: int, solved_at: float) -> list[Trajectory]:
    """At most n responses, in their order: n/2 right and n/2 wrong, and more of one where there are fewer of the other (2510.04996).

    The first of each: responses of a group are exchangeable, so that no draw is needed. Advantages stay those of all samples.
    """
    right = [i for i, t in enumerate(kept) if t.score.right(solved_at)]
    wrong = [i for i, t in enumerate(kept) if not t.score.right(solved_at)]
    rights = min(len(right), max(n // 2, n - len(wrong)))
    chosen = sorted(right[:rights] + wrong[: n - rights])
    return [kept[i] for i in chosen]


def _rewards(group: Group) -> NDArray[np.float64]:
    return as_rewards([t.score.reward for t in group.trajectories])


def _select(group: Group, advantages_N: Advantages, wanted_N: Mask, retention: RetentionConfig) -> tuple[list[Trajectory], int]:
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
