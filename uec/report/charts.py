"""The charts of the page, and the metrics that each one shows. uec/tracking/metrics.py explains the metrics."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from uec.tracking.metrics import METRICS, Metric, describe


@dataclass(frozen=True, slots=True)
class Chart:
    """One or a few metrics of the same unit."""

    title: str
    keys: list[str]


@dataclass(frozen=True, slots=True)
class Section:
    """Charts on one subject, and the keys of its metrics that the runs do not have."""

    title: str
    charts: list[Chart]
    missing: list[str]


LAYOUT: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "Held-out and training accuracy": (
        ("pass@<k>, held out", ("eval/pass@<k>",)),
        ("Accuracy in training", ("reward/accuracy_mean",)),
        ("Reward in training", ("reward/mean",)),
        ("Held-out <part>", ("eval/<part>_mean",)),
    ),
    "Entropy": (
        ("Entropy by kind of response", ("entropy/regular", "entropy/exploration", "entropy/replay")),
        ("Entropy of right and wrong responses", ("entropy/right", "entropy/wrong")),
        ("Entropy, held out", ("eval/entropy",)),
        ("Covariance that predicts its change", ("policy/entropy_cov",)),
    ),
    "Exploration and retention": (
        ("Difficult prompts, and those solved by exploration", ("explore/difficult_frac", "explore/solved_frac")),
        ("Exploration temperature", ("explore/temperature",)),
        ("Responses kept", ("retain/regular", "retain/exploration")),
        ("Groups without a learning signal", ("reward/zero_std_frac",)),
    ),
    "Policy update": (
        ("KL to the initial model", ("policy/kl",)),
        ("Clipped tokens", ("policy/clip_frac", "policy/dual_clip_frac")),
        ("Gradient norm", ("policy/grad_norm",)),
        ("Loss", ("policy/loss",)),
        ("Log-probability gap between engine and learner, mean", ("policy/rollout_logprob_gap_mean",)),
    ),
    "Replay": (
        ("Age of replayed responses", ("replay/age_mean",)),
        ("Replay buffer", ("replay/size", "replay/admitted", "replay/used")),
        ("Clipped tokens of replayed responses", ("replay/clip_frac",)),
        ("Ratio on replayed responses", ("replay/ratio_mean",)),
    ),
    "Time": (
        ("Step time", ("time/step_s",)),
        ("Step time by activity", ("time/generate_s", "time/explore_s", "time/reward_s", "time/learn_s", "time/sync_s", "time/idle_s")),
        ("Engine idle time", ("time/engine_idle_s",)),
        ("Tokens generated a second", ("rollout/tokens_per_s",)),
    ),
    "Tokens": (
        ("Tokens generated", ("rollout/regular_tokens", "rollout/exploration_tokens")),
        ("Length of responses, in training and held out", ("rollout/response_len_mean", "eval/response_len_mean")),
        ("Truncated responses, in training and held out", ("rollout/truncated_frac", "eval/truncated_frac")),
        ("Tokens trained on", ("learner/tokens",)),
    ),
}

BOUND = re.compile(r"eval/pass@\d+_(low|high)")
"""Metrics that are drawn as the band of their pass@k."""


def sections(keys: set[str]) -> list[Section]:
    """Return the charts for runs with these metrics; the last section has every metric that no other section shows."""
    left = sorted((key for key in keys if not BOUND.fullmatch(key)), key=_natural)
    found = []
    for title, wanted in LAYOUT.items():
        charts, missing = [], []
        for name, patterns in wanted:
            if "<" in patterns[0]:  # a chart for each key
                metric = _metric(patterns[0])
                several = [key for key in left if describe(key) is metric]
                charts += [Chart(_filled(name, patterns[0], key), [key]) for key in several]
                missing += [] if several or name.startswith("Held-out") else [metric.key]
                left = [key for key in left if key not in several]
            else:
                there = [key for key in patterns if key in left]
                charts += [Chart(name, there)] if there else []
                missing += [key for key in patterns if key not in left]
                left = [key for key in left if key not in there]
        found.append(Section(title, charts, missing))
    return [*found, Section("All other metrics", [Chart(key, [key]) for key in left], [])]


def captions(keys: Sequence[str]) -> list[tuple[str, str]]:
    """Return the explanation and unit of each key ("" for a plain number or an unknown metric)."""
    return [(metric.text, metric.unit) if (metric := describe(key)) else ("", "") for key in keys]


def _metric(key: str) -> Metric:
    found = next((metric for metric in METRICS if metric.key == key), None) or describe(key)  # a pattern, or one of its keys
    assert found is not None, key
    return found


def _filled(title: str, pattern: str, key: str) -> str:
    """Return the title with its placeholder replaced by the key's variable part."""
    placeholder = re.search(r"<\w+>", pattern)
    assert placeholder is not None
    before, after = pattern.split(placeholder[0])
    return title.replace(placeholder[0], key.removeprefix(before).removesuffix(after))


def _natural(key: str) -> list[tuple[int, float, str]]:
    """Return a sort key that puts pass@8 before pass@16."""
    return [(0, float(part), "") if part[0].isdigit() else (1, 0.0, part) for part in re.split(r"(\d+(?:\.\d+)?)", key) if part]
