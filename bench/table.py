"""The results as one table for a person, and as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.figure import MISSES, Figure, Target
from bench.machine import Machine
from uec.system.files import atomic_write

STYLE = {"meets": "green", MISSES: "red", "failed": "bold red"}


@dataclass(frozen=True, slots=True)
class Result:
    """What one bench came to."""

    bench: str
    seconds: float  # it took
    figures: list[Figure] = field(default_factory=list)
    error: str = ""  # why there are no figures


def number(value: float) -> str:
    """Three digits that count: 0.0213, 0.75, 12.4, 830, 15.2k."""
    if abs(value) >= 1e4:
        return f"{value / 1e3:.1f}k"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def table(results: list[Result]) -> Table:
    """One row a figure."""
    made = Table(title="uec bench", title_justify="left", show_lines=False)
    for title in ("bench", "what", "figure", "against", "target", "ratio", "verdict"):
        made.add_column(title, justify="right" if title == "figure" else "left")
    for result in results:
        for figure in result.figures:
            verdict = figure.verdict
            made.add_row(
                result.bench, figure.what, _with_unit(figure.value, figure.unit), _against(figure), _target(figure), _ratio(figure),
                f"[{STYLE[verdict]}]{verdict}[/]" if verdict else "",
            )  # fmt: skip
        if result.error:
            made.add_row(result.bench, result.error.splitlines()[0], "", "", "", "", f"[{STYLE['failed']}]failed[/]")
        made.add_section()
    return made


def notes(results: list[Result]) -> list[str]:
    """What has to be known about single figures, and errors in full."""
    said = [f"{result.bench}, {figure.what}: {note}" for result in results for figure in result.figures if (note := _note(figure))]
    return said + [f"{result.bench} failed: {result.error}" for result in results if result.error]


def _note(figure: Figure) -> str:
    cpu_ratio = figure.reference.cpu_ratio if figure.reference else None
    return "; ".join([note for note in (figure.note, f"by CPU time the ratio is {cpu_ratio:.2f}" if cpu_ratio else "") if note])


def write_json(path: Path, machine: Machine, results: list[Result]) -> None:
    """Everything that the table shows, and the spread of the ratios."""
    report = {"machine": asdict(machine), "warning": machine.warning, "benches": [_as_json(result) for result in results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(report, indent=1, allow_nan=False) + "\n")


def _as_json(result: Result) -> dict[str, Any]:
    figures = [asdict(figure) | {"ratio": figure.ratio, "verdict": figure.verdict} for figure in result.figures]
    return {"bench": result.bench, "seconds": round(result.seconds, 1), "error": result.error, "figures": figures}


def _with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".rstrip()


def _against(figure: Figure) -> str:
    reference = figure.reference
    return f"{reference.what}: {_with_unit(reference.value, figure.unit)}" if reference else ""


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    bound = _bound(figure.target)
    return f"ratio {bound}" if figure.reference else f"{bound} {figure.unit}".rstrip()


def _bound(target: Target) -> str:
    return f"{'≤' if target.at_most else '≥'} {number(target.bound)}"


def _ratio(figure: Figure) -> str:
    if figure.ratio is None:
        return ""
    spread = f" ({figure.reference.low:.2f} to {figure.reference.high:.2f})" if figure.reference else ""
    return f"{figure.ratio:.2f}{spread}"
