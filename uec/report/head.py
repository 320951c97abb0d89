"""The table at the top: what each run came to."""

from collections.abc import Sequence
from dataclasses import dataclass

from uec.report.run_data import RunData
from uec.tracking.figures import count, duration
from uec.tracking.summary import Line, Summary, compare, read_course


@dataclass(frozen=True, slots=True)
class Row:
    """A run, as it is written. `figures` has a line for each of the table's columns; None where the run has none."""

    run: RunData
    steps: str
    tokens: str
    time: str
    figures: list[Line | None]


@dataclass(frozen=True, slots=True)
class Head:
    """The columns' titles, and a row for each run."""

    columns: list[str]
    rows: list[Row]


def head(runs: Sequence[RunData]) -> Head:
    """The figures of `uec train`'s own last table, of every run."""
    summaries = [_summary(run) for run in runs]
    lines = [{line.label: line for line in compare(summary, intervals=False)} for summary in summaries]
    columns = list(dict.fromkeys(label for one in lines for label in one))
    rows = []
    for run, summary, mine in zip(runs, summaries, lines, strict=True):
        wanted = run.settings.get("train.steps")
        steps = f"{summary.steps} of {wanted}" if wanted and wanted != summary.steps else str(summary.steps)
        figures = [mine.get(label) for label in columns]
        rows.append(Row(run, steps, count(summary.tokens), duration(summary.wall_s), figures))
    return Head(columns, rows)


def _summary(run: RunData) -> Summary:
    return read_course(run.folder).summary(run.folder, sum(row.get("time/step_s", 0.0) for row in run.rows))
