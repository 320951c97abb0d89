"""Which runs are repetitions of one another: they differ in nothing but the seed, and are drawn as one curve with a band."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uec.report.run_data import RunData

ASIDE = ("run.", "tracking", "wandb.")
"""Settings that change nothing about what is learned; `run.seed` is among them."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Runs of the same settings, by their position."""

    label: str
    runs: list[int]


def repeats(runs: Sequence[RunData]) -> list[Repeats]:
    """The runs grouped, in the order of their first ones. A run that has no other like it is a group of its own, under its own name."""
    found: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        what = {key: value for key, value in run.settings.items() if not key.startswith(ASIDE)}
        found.setdefault(json.dumps(what, sort_keys=True, default=str), []).append(i)
    groups = [Repeats(_label([runs[i] for i in members]), members) for members in found.values()]
    labels = [group.label for group in groups]
    return [
        Repeats(f"{group.label} ({runs[group.runs[0]].label} ...)", group.runs) if labels.count(group.label) > 1 else group
        for group in groups
    ]


def _label(runs: list[RunData]) -> str:
    if len(runs) == 1:
        return runs[0].label
    seeds: list[Any] = [run.seed for run in runs]
    return f"{runs[0].algorithm}, seeds {', '.join(map(str, seeds))}"
