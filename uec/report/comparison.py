"""Compare the settings of runs: their differences, and the runs that repeat one another with other seeds."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from uec.config.schema import Config
from uec.report.run_data import RunData, flat

UNSET = "-"

IGNORED = ("run.", "tracking", "wandb.")
"""Settings in which repeated runs may differ; `run.seed` is one of them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field with its default and each run's value."""

    key: str
    default: str
    values: list[str]


def differences(runs: Sequence[RunData]) -> list[Difference]:
    """Return the fields in which the runs differ, except the name."""
    return [found for found in _all(runs) if len(set(found.values)) > 1 and found.key != "run.name"]


def from_defaults(runs: Sequence[RunData]) -> list[Difference]:
    """Return the fields in which a run differs from the defaults of `uec/config/schema.py`."""
    return [found for found in _all(runs) if any(value != found.default for value in found.values)]


def _all(runs: Sequence[RunData]) -> list[Difference]:
    defaults = flat(dataclasses.asdict(Config()))
    keys = list(dict.fromkeys([*defaults, *(key for run in runs for key in run.settings)]))
    return [Difference(key, _format(defaults, key), [_format(run.settings, key) for run in runs]) for key in keys]


def _format(settings: dict[str, Any], key: str) -> str:
    if key not in settings:
        return UNSET
    value = settings[key]
    if value == "???":
        return "(required)"
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True).removesuffix("\n...\n").strip()


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Runs with the same settings except for the seed, by position; they are drawn as one curve with a band."""

    label: str
    runs: list[int]


def group_runs(runs: Sequence[RunData]) -> list[RunGroup]:
    """Group the runs, in the order of their first ones. A run without repetitions forms a group under its name."""
    found: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        compared = {key: value for key, value in run.settings.items() if not key.startswith(IGNORED)}
        found.setdefault(json.dumps(compared, sort_keys=True, default=str), []).append(i)
    groups = [RunGroup(_label([runs[i] for i in members]), members) for members in found.values()]
    labels = [group.label for group in groups]
    return [
        RunGroup(f"{group.label} ({runs[group.runs[0]].label} ...)", group.runs) if labels.count(group.label) > 1 else group
        for group in groups
    ]


def _label(runs: list[RunData]) -> str:
    if len(runs) == 1:
        return runs[0].label
    seeds: list[Any] = [run.seed for run in runs]
    return f"{runs[0].algorithm}, seeds {', '.join(map(str, seeds))}"
