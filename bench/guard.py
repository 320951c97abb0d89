"""Compare ratios with the last committed ones, and find those that fell.

Ratios of one run can be compared between machines with the same processor; times and rates cannot. Ratios of different processors
cannot be compared: PyTorch's float32 products, and so the bare loops, are slow on AMD's and fast on Intel's.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.machine import Machine
from bench.table import Result
from uec.system.files import atomic_write

RESULTS = Path(__file__).parent / "results/ratios.json"
FALL = 0.15
"""Loss, as a share of the committed ratio, that counts as a fall."""


@dataclass(frozen=True, slots=True)
class Change:
    """One ratio, then and now."""

    row: str  # bench and metric
    now: float
    then: float | None  # as committed; None: not committed
    at_most: bool  # a smaller ratio is better, as for times: it falls when the ratio rises

    @property
    def loss(self) -> float:
        """Loss as a share of the committed ratio; negative for a gain."""
        if self.then is None:
            return 0.0
        return (self.now - self.then if self.at_most else self.then - self.now) / self.then

    @property
    def fell(self) -> bool:
        return self.loss >= FALL


def changes(results: list[Result], then: Mapping[str, float]) -> list[Change]:
    """Return the change of each metric that has a reference, and so a ratio of one run."""
    return [
        Change(
            f"{result.bench}, {metric.what}", metric.reference.ratio, then.get(f"{result.bench}, {metric.what}"), metric.smaller_is_better
        )
        for result in results
        for metric in result.metrics
        if metric.reference is not None
    ]


def better(first: list[Change], again: list[Change]) -> list[Change]:
    """Return the better measurement of each row: one that is slow only once was disturbed."""
    second = {change.row: change for change in again}
    return [min(change, second.get(change.row, change), key=lambda one: one.loss) for change in first]


def table(found: list[Change]) -> Table:
    """Return a table with a row for each change, which marks those that fell."""
    made = Table(title="ratios to the last committed results", title_justify="left")
    for title in ("what", "then", "now", "change", ""):
        made.add_column(title, justify="left" if title in ("what", "") else "right")
    for change in found:
        then = "" if change.then is None else f"{change.then:.2f}"
        moved = "new" if change.then is None else f"{100 * (change.now / change.then - 1):+.1f} %"
        made.add_row(change.row, then, f"{change.now:.2f}", moved, "[bold red]fell[/]" if change.fell else "")
    return made


def read(path: Path) -> dict[str, dict[str, float]]:
    """Return the committed ratios by processor."""
    return {cpu: of_cpu["ratios"] for cpu, of_cpu in _content(path).items()}


def record(found: list[Change], machine: Machine, path: Path) -> None:
    """Write these as the results to commit for the machine's processor."""
    path.parent.mkdir(exist_ok=True)
    ratios = {change.row: round(change.now, 3) for change in found}
    content = _content(path) | {machine.cpu: {"machine": str(machine), "date": time.strftime("%Y-%m-%d"), "ratios": ratios}}
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _content(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}
