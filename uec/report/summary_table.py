"""The table at the top of the page: the outcome of each run."""

from collections.abc import Sequence
from dataclasses import dataclass

from uec.report.run_data import RunData
from uec.tracking.number_format import count, duration
from uec.tracking.summary import Line, Summary, compare, read_history


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """A run with its formatted values. `lines` has an entry for each of the table's columns; None if the run has no such metric."""

    run: RunData
    steps: str
    tokens: str
    time: str
    lines: list[Line | None]


@dataclass(frozen=True, slots=True)
class SummaryTable:
    """The columns' titles, and a row for each run."""

    columns: list[str]
    rows: list[SummaryRow]


def summary_table(runs: Sequence[RunData]) -> SummaryTable:
    """Return for every run the metrics that `uec train` shows in its last table."""
    summaries = [_summary(run) for run in runs]
    lines = [{line.label: line for line in compare(summary, intervals=False)} for summary in summaries]
    columns = list(dict.fromkeys(label for of_run in lines for label in of_run))
    rows = []
    for run, summary, of_run in zip(runs, summaries, lines, strict=True):
        planned = run.settings.get("train.steps")
        steps = f"{summary.steps} of {planned}" if planned and planned != summary.steps else str(summary.steps)
        found = [of_run.get(label) for label in columns]
        rows.append(SummaryRow(run, steps, count(summary.tokens), duration(summary.wall_s), found))
    return SummaryTable(columns, rows)


def _summary(run: RunData) -> Summary:
    return read_history(run.folder).summary(run.folder, sum(row.get("time/step_s", 0.0) for row in run.rows))
