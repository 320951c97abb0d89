"""Curves of a run's metrics over steps, tokens and time, and their mean and range over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AXES = {"step": "step", "tokens": "response tokens generated", "seconds": "seconds in steps"}
"""The x axes. Seconds are the sum of time/step_s, without evaluations and checkpoints."""

MOST_POINTS = 2000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curves:
    """N points: their position on each of AXES, and the value of each metric, NaN if a step does not have it."""

    x: dict[str, Floats]  # [N]
    y: dict[str, Floats]  # [N]
    steps_a_point: int = 1


@dataclass(frozen=True, slots=True)
class Band:
    """M points: the mean over seeds, and the lowest and the highest seed."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats


def curves(rows: Sequence[dict[str, float]]) -> Curves:
    """Return the curves of metrics.jsonl's rows. More than MOST_POINTS rows are averaged over several steps for each point."""
    keys = sorted({key for row in rows for key in row} - {"step"})
    y = {key: np.array([row.get(key, np.nan) for row in rows], dtype=float) for key in keys}
    nothing = np.zeros(len(rows))
    x = {
        "step": np.array([row["step"] for row in rows], dtype=float),
        "tokens": np.cumsum(np.nan_to_num(y.get("rollout/tokens", nothing))),
        "seconds": np.cumsum(np.nan_to_num(y.get("time/step_s", nothing))),
    }
    size = -(-len(rows) // MOST_POINTS)
    return Curves(x, y) if size <= 1 else _thinned(x, y, size)


def _thinned(x: dict[str, Floats], y: dict[str, Floats], size: int) -> Curves:
    """Return means over portions of `size` points, each at the position of its last point."""
    begins = np.arange(0, len(x["step"]), size)
    last = np.append(begins[1:], len(x["step"])) - 1
    means = {}
    for key, values in y.items():
        there = ~np.isnan(values)
        count = np.add.reduceat(there.astype(float), begins)
        total = np.add.reduceat(np.where(there, values, 0.0), begins)
        means[key] = np.divide(total, count, out=np.full(len(begins), np.nan), where=count > 0)
    return Curves({axis: values[last] for axis, values in x.items()}, means, size)


def band(parts: Sequence[tuple[Floats, Floats]]) -> Band | None:
    """Return the mean and range of several curves, each given as positions (ascending) and values.

    Curves are interpolated linearly. The band covers the range that all curves cover, and has a point wherever one of them has.
    None if there is no such range, or a curve has no value.
    """
    parts = [(x[~np.isnan(y)], y[~np.isnan(y)]) for x, y in parts]
    if not parts or any(len(x) == 0 for x, _ in parts):
        return None
    first, last = max(x[0] for x, _ in parts), min(x[-1] for x, _ in parts)
    grid = np.unique(np.concatenate([x for x, _ in parts]))
    grid = grid[(grid >= first) & (grid <= last)]
    if len(grid) == 0:
        return None
    values = np.stack([np.interp(grid, x, y) for x, y in parts])
    return Band(grid, values.mean(0), values.min(0), values.max(0))
