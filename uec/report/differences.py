"""Which settings the runs do not share, and which are not the defaults."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from uec.config.schema import Config
from uec.report.run_data import RunData, flat

UNSET = "-"


@dataclass(frozen=True, slots=True)
class Difference:
    """A field, its default, and what each run has."""

    key: str
    default: str
    values: list[str]


def between(runs: Sequence[RunData]) -> list[Difference]:
    """The fields in which the runs differ; their name aside."""
    return [found for found in _all(runs) if len(set(found.values)) > 1 and found.key != "run.name"]


def from_defaults(runs: Sequence[RunData]) -> list[Difference]:
    """The fields that one of the runs has otherwise than `uec/config/schema.py` does."""
    return [found for found in _all(runs) if any(value != found.default for value in found.values)]


def _all(runs: Sequence[RunData]) -> list[Difference]:
    defaults = flat(dataclasses.asdict(Config()))
    keys = list(dict.fromkeys([*defaults, *(key for run in runs for key in run.settings)]))
    return [Difference(key, _written(defaults, key), [_written(run.settings, key) for run in runs]) for key in keys]


def _written(settings: dict[str, Any], key: str) -> str:
    if key not in settings:
        return UNSET
    value = settings[key]
    if value == "???":
        return "(required)"
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True).removesuffix("\n...\n").strip()
