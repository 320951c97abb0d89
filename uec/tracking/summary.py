"""The table at the end of a run: metrics before and after training."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from uec.tracking.metrics_file import METRICS_FILE, read_metrics
from uec.tracking.number_format import count, decimal, duration

HEADINGS = ("before", "after", "change")
INTERVALS_FROM = 76  # terminal width in characters from which confidence intervals are shown


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a run. `before` and `after` hold metrics by key; any of them may be missing."""

    folder: Path
    steps: int  # total, including those before a resume
    wall_s: float
    tokens: int  # response tokens generated in training
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """A formatted metric before and after."""

    label: str
    before: str
    after: str
    change: str


class RunHistory:
    """Collects the metrics that a Summary needs.

    Before and after are the first and the last evaluation, or for metrics of training only the first and the last step.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.tokens = 0.0
        self._before: dict[str, float] = {}
        self._after: dict[str, float] = {}

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.steps = step
        self.tokens += metrics.get("rollout/tokens", 0.0)
        self._keep(step, metrics)

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        self._keep(step, metrics)

    def _keep(self, step: int, metrics: dict[str, float]) -> None:
        for key, value in metrics.items():
            if step == 0:
                self._before[key] = value
                continue
            # The first value counts as `before` only once there is a later value.
            if key in self._after:
                self._before.setdefault(key, self._after[key])
            self._after[key] = value

    def summary(self, folder: Path, wall_s: float) -> Summary:
        return Summary(folder, self.steps, wall_s, int(self.tokens), dict(self._before), dict(self._after))


def read_history(folder: Path) -> RunHistory:
    """Read the run's metrics.jsonl; return an empty history if it does not exist."""
    history = RunHistory()
    path = folder / METRICS_FILE
    for row in read_metrics(path) if path.exists() else []:
        step = int(row["step"])
        history.evaluation(step, {key: value for key, value in row.items() if key.startswith("eval/")})
        trained = {key: value for key, value in row.items() if key != "step" and not key.startswith("eval/")}
        if trained:
            history.log(step, trained)
    return history


def compare(summary: Summary, intervals: bool = True) -> list[Line]:
    """Return the table's lines: pass@k, other parts of the reward, entropy, length. Metrics of training, labelled so, replace those that
    no evaluation measured."""
    keys = {*summary.before, *summary.after}
    passes = sorted(int(found[1]) for found in (re.fullmatch(r"eval/pass@(\d+)", key) for key in keys) if found)
    lines = [_line(summary, f"pass@{k}", f"eval/pass@{k}", intervals=intervals) for k in passes]
    if not passes and "reward/accuracy_mean" in keys:
        lines.append(_line(summary, "training accuracy", "reward/accuracy_mean"))
    parts = sorted(found[1] for found in (re.fullmatch(r"eval/(?!response_len_|accuracy_)(\w+)_mean", key) for key in keys) if found)
    lines += [_line(summary, f"mean {part}", f"eval/{part}_mean") for part in parts]  # that of accuracy is pass@1
    for label, held_out, training, digits in (
        ("entropy", "eval/entropy", "policy/entropy", 3),
        ("response length", "eval/response_len_mean", "rollout/response_len_mean", 1),
    ):
        if held_out in keys:
            lines.append(_line(summary, label, held_out, digits))
        elif training in keys:
            lines.append(_line(summary, f"training {label}", training, digits))
    return lines


def totals(summary: Summary) -> str:
    return f"{summary.steps} steps, {count(summary.tokens)} tokens generated, {duration(summary.wall_s)}"


def show(summary: Summary, console: Console) -> None:
    """Print the lines of `compare`, the totals and the run folder."""
    lines = compare(summary, intervals=console.width >= INTERVALS_FROM)
    if lines:
        grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        grid.add_column("")
        for name in HEADINGS:
            grid.add_column(name, justify="right")
        for line in lines:
            # Only for pass@k is higher always better.
            colour = {"+": "green", "-": "red"}.get(line.change[:1], "") if line.label.startswith("pass@") else ""
            grid.add_row(line.label, line.before, Text(line.after, style="bold"), Text(line.change, style=colour))
        console.print(grid, "")
    console.print(Text(totals(summary)))
    # Without line breaks, so that the path can be copied.
    console.print(Text(str(summary.folder), style="bold"), soft_wrap=True)


def plain(summary: Summary) -> str:
    """Return the same as text without control characters."""
    rows = [("", *HEADINGS), *((line.label, line.before, line.after, line.change) for line in compare(summary))]
    width = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [row[0].ljust(width[0]) + "".join(f"  {row[c]:>{width[c]}}" for c in (1, 2, 3)) for row in rows]
    return "\n".join([*(lines if len(rows) > 1 else []), totals(summary), str(summary.folder)])


def _line(summary: Summary, label: str, key: str, digits: int = 3, intervals: bool = False) -> Line:
    before, after = summary.before.get(key), summary.after.get(key)
    change = "" if before is None or after is None else f"{after - before:+.{digits}f}"
    return Line(label, _value(summary.before, key, digits, intervals), _value(summary.after, key, digits, intervals), change)


def _value(metrics: dict[str, float], key: str, digits: int, interval: bool) -> str:
    text = decimal(metrics.get(key), digits)
    low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
    return f"{text} ({low:.2f} to {high:.2f})" if interval and low is not None and high is not None else text
