"""Selective retention (2604.14646): choose the responses of a step to train on, and compute their advantages."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from uec.algorithm.advantage import Advantages, Estimator, as_rewards
from uec.config.schema import Config, ExplorationConfig, RetentionConfig
from uec.types import Mask, PromptRollouts, TrainingSample


def keep_regular(advantages_G: Advantages, retention: RetentionConfig) -> Mask:
    """Return where |A| > min_abs_advantage (paper: 0, so that A != 0; released code: 0.05); None keeps all."""
    if retention.min_abs_advantage is None:
        return np.ones(len(advantages_G), dtype=bool)
    return np.abs(advantages_G) > retention.min_abs_advantage


def keep_exploration(advantages_H: Advantages, exploration: ExplorationConfig) -> Mask:
    """Return where A > 0 (`positive`, paper), or |A| > threshold (`informative`, released code)."""
    if exploration.keep == "positive":
        return advantages_H > 0
    return np.abs(advantages_H) > exploration.threshold


def rewarded_but_wrong(sample: TrainingSample, advantage: float, cfg: Config) -> bool:
    """Return whether `retention.positive: right` refuses a response: A > 0, but it is wrong and owes A to, say, a format bonus."""
    return cfg.retention.positive == "right" and advantage > 0 and not sample.right(cfg.difficulty.solved_at)


def overlong_positive(advantages_N: Advantages, truncated_N: Mask, retention: RetentionConfig) -> Mask:
    """Return which truncated responses with A > 0 to drop: reinforcing them teaches the model to ramble."""
    return truncated_N & (advantages_N > 0) & retention.drop_overlong_positive


def advantages(prompts: list[PromptRollouts], cfg: Config, estimator: Estimator) -> list[tuple[Advantages, Advantages]]:
    """Compute the advantages of each prompt's regular [G] and exploration [G'] responses; [0] without exploration.

    `exploration.group: own` makes the G regular and the G' exploration responses two groups, so the all-wrong regular group of a
    difficult prompt gets A = 0 and is dropped. With `joint` all G + G' are one group, and the *regular* responses get their advantages
    from it, too: once exploration has found a solution, the regular failures have A < 0 and are kept. If only exploration used the joint
    group, the trained advantages would not sum to 0.

    The estimator gets no empty group, and is not called without prompts (dynamic sampling found none).
    """
    joint = cfg.exploration.group == "joint"
    groups: list[NDArray[np.float64]] = []
    for prompt in prompts:
        of_prompt = [_rewards(group) for group in (prompt.regular, prompt.exploration) if group is not None]
        groups += [np.concatenate(of_prompt)] if joint else of_prompt
    found = iter(estimator(groups) if groups else [])
    pairs = []
    for prompt in prompts:
        first, count = next(found), len(prompt.regular)
        pairs.append((first[:count], first[count:] if joint or prompt.exploration is None else next(found)))
    return pairs


def retain(prompts: list[PromptRollouts], cfg: Config, estimator: Estimator) -> list[PromptRollouts]:
    """Compute advantages and keep the informative responses of a step (algorithm, steps 2, 4 and 5).

    Returns the prompts with `kept` and `overlong_dropped`. With dynamic sampling, uninformative prompts are left out: others have
    taken their place.
    """
    if cfg.dynamic_sampling.enabled:
        prompts = [prompt for prompt in prompts if not prompt.uninformative]
    retained = []
    for prompt, (advantages_G, advantages_H) in zip(prompts, advantages(prompts, cfg, estimator), strict=True):
        kept_G, dropped_G = _select(prompt.regular, advantages_G, keep_regular(advantages_G, cfg.retention), cfg.retention)
        kept_H: list[TrainingSample] = []
        dropped_H = 0
        if prompt.exploration is not None:
            pairs_H = zip(prompt.exploration, advantages_H.tolist(), strict=True)
            wrong_H = np.array([rewarded_but_wrong(sample, advantage, cfg) for sample, advantage in pairs_H], dtype=bool)
            wanted_H = keep_exploration(advantages_H, cfg.exploration) & ~wrong_H
            kept_H, dropped_H = _select(prompt.exploration, advantages_H, wanted_H, cfg.retention)
        if cfg.retention.subset is not None:
            kept_G = balanced(kept_G, cfg.retention.subset, cfg.difficulty.solved_at)
        retained.append(replace(prompt, kept=kept_G + kept_H, overlong_dropped=dropped_G + dropped_H))
    return retained


def balanced(kept: list[TrainingSample], n: int, solved_at: float) -> list[TrainingSample]:
    """Keep at most n responses, in order: n/2 right and n/2 wrong, or more of one kind if there are fewer of the other (2510.04996).

    Takes the first of each kind: no draw is needed, because responses of a group are exchangeable. Advantages do not change.
    """
    right = [i for i, sample in enumerate(kept) if sample.right(solved_at)]
    wrong = [i for i, sample in enumerate(kept) if not sample.right(solved_at)]
    rights = min(len(right), max(n // 2, n - len(wrong)))
    chosen = sorted(right[:rights] + wrong[: n - rights])
    return [kept[i] for i in chosen]


def _rewards(group: list[TrainingSample]) -> NDArray[np.float64]:
    return as_rewards([sample.reward for sample in group])


def _select(
    group: list[TrainingSample], advantages_N: Advantages, wanted_N: Mask, retention: RetentionConfig
) -> tuple[list[TrainingSample], int]:
    """Return the wanted samples without overlong positives, and the number of overlong ones among the wanted."""
    truncated_N = np.array([sample.truncated for sample in group], dtype=bool)
    overlong_N = wanted_N & overlong_positive(advantages_N, truncated_N, retention)
    kept_N = wanted_N & ~overlong_N
    kept = [
        sample.with_advantage(advantage)
        for sample, advantage, keep in zip(group, advantages_N.tolist(), kept_N.tolist(), strict=True)
        if keep
    ]
    return kept, int(np.count_nonzero(overlong_N))
