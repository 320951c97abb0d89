"""The data of the page's scripts, as JSON: lines of the charts, and responses."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from uec.report.charts import Section, captions, sections
from uec.report.comparison import RunGroup, group_runs
from uec.report.curves import AXES, Curves, Floats, band, curves
from uec.report.rollouts import read_rollouts
from uec.report.run_data import RunData

DIGITS = 6
"""Significant digits of each number."""


def page_data(runs: Sequence[RunData], most_groups: int) -> dict[str, Any]:
    """Return the page's data. Each group of runs has lines: the points of a single run, or mean and range over several."""
    drawn = [curves(run.rows) for run in runs]
    groups = group_runs(runs)
    keys = {key for one in drawn for key in one.y}
    return {
        "axes": AXES,
        "groups": [group.label for group in groups],
        "lines": [_lines(group, drawn) for group in groups],
        "sections": [_section(section) for section in sections(keys)],
        "thinned": max((one.steps_a_point for one in drawn), default=1),
        "runs": [{"label": run.label, "solved_at": run.solved_at, **read_rollouts(run.folder, most_groups)} for run in runs],
    }


def as_script(data: dict[str, Any]) -> str:
    """Return JSON that is safe in a <script> element: every `<` is escaped."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    escaped = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return escaped.encode("utf-8", "backslashreplace").decode()  # UTF-8 cannot encode a lone surrogate; its escape is valid JSON


def _lines(group: RunGroup, drawn: list[Curves]) -> dict[str, Any]:
    members = [drawn[i] for i in group.runs]
    if len(members) == 1:
        one = members[0]
        return {"x": {axis: _numbers(x) for axis, x in one.x.items()}, "y": {key: _numbers(y) for key, y in one.y.items()}}
    keys = sorted({key for one in members for key in one.y})
    return {"bands": {axis: {key: found for key in keys if (found := _band(members, axis, key))} for axis in AXES}}


def _band(members: list[Curves], axis: str, key: str) -> dict[str, Any] | None:
    parts = [(one.x[axis], one.y.get(key, np.full(len(one.x[axis]), np.nan))) for one in members]
    found = band(parts)
    if found is None:
        return None
    return {"x": _numbers(found.x), "y": _numbers(found.mean), "low": _numbers(found.low), "high": _numbers(found.high)}


def _section(section: Section) -> dict[str, Any]:
    return {
        "title": section.title,
        "charts": [{"title": chart.title, "keys": chart.keys, "captions": captions(chart.keys)} for chart in section.charts],
        "missing": section.missing,
    }


def _numbers(values: Floats) -> list[float | None]:
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values.tolist()]
