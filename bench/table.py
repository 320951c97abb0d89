"""Show the results as one table, and write them as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.machine import Machine
from bench.metric import MISSES, Metric, Target
from uec.system.files import atomic_write

STYLE = {"meets": "green", MISSES: "red", "failed": "bold red"}


@dataclass(frozen=True, slots=True)
class Result:
    """The metrics of one bench, or its error."""

    bench: str
    seconds: float  # of the whole bench
    metrics: list[Metric] = field(default_factory=list)
    error: str = ""  # why it has no metrics


def number(value: float) -> str:
    """Return a number with three significant digits: 0.0213, 0.75, 12.4, 830, 15.2k."""
    if abs(value) >= 1e4:
        return f"{value / 1e3:.1f}k"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def table(results: list[Result]) -> Table:
    """Return a table with one row for each metric."""
    made = Table(title="uec bench", title_justify="left", show_lines=False)
    for title in ("bench", "what", "value", "against", "target", "ratio", "verdict"):
        made.add_column(title, justify="right" if title == "value" else "left")
    for result in results:
        for metric in result.metrics:
            verdict = metric.verdict
            made.add_row(
                result.bench, metric.what, _with_unit(metric.value, metric.unit), _against(metric), _target(metric), _ratio(metric),
                f"[{STYLE[verdict]}]{verdict}[/]" if verdict else "",
            )  # fmt: skip
        if result.error:
            made.add_row(result.bench, result.error.splitlines()[0], "", "", "", "", f"[{STYLE['failed']}]failed[/]")
        made.add_section()
    return made


def notes(results: list[Result]) -> list[str]:
    """Return the notes of metrics, and errors in full."""
    said = [f"{result.bench}, {metric.what}: {note}" for result in results for metric in result.metrics if (note := _note(metric))]
    return said + [f"{result.bench} failed: {result.error}" for result in results if result.error]


def _note(metric: Metric) -> str:
    cpu_ratio = metric.reference.cpu_ratio if metric.reference else None
    return "; ".join([note for note in (metric.note, f"by CPU time the ratio is {cpu_ratio:.2f}" if cpu_ratio else "") if note])


def write_json(path: Path, machine: Machine, results: list[Result]) -> None:
    """Write all that the table shows, and the spread of the ratios."""
    report = {"machine": asdict(machine), "warning": machine.warning, "benches": [_as_json(result) for result in results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(report, indent=1, allow_nan=False) + "\n")


def _as_json(result: Result) -> dict[str, Any]:
    metrics = [asdict(metric) | {"ratio": metric.ratio, "verdict": metric.verdict} for metric in result.metrics]
    return {"bench": result.bench, "seconds": round(result.seconds, 1), "error": result.error, "figures": metrics}


def _with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".rstrip()


def _against(metric: Metric) -> str:
    reference = metric.reference
    return f"{reference.what}: {_with_unit(reference.value, metric.unit)}" if reference else ""


def _target(metric: Metric) -> str:
    if metric.target is None:
        return ""
    bound = _bound(metric.target)
    return f"ratio {bound}" if metric.reference else f"{bound} {metric.unit}".rstrip()


def _bound(target: Target) -> str:
    return f"{'≤' if target.at_most else '≥'} {number(target.bound)}"


def _ratio(metric: Metric) -> str:
    if metric.ratio is None:
        return ""
    spread = f" ({metric.reference.low:.2f} to {metric.reference.high:.2f})" if metric.reference else ""
    return f"{metric.ratio:.2f}{spread}"
