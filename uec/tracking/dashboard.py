"""The live dashboard of a run on a terminal, drawn from its latest metrics."""

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from uec.config.schema import Config
from uec.tracking.number_format import count, decimal, duration, seconds, share
from uec.tracking.plain_console import engine_rates, pass_keys, solved
from uec.tracking.text_charts import Part, Pen, Trend, fill_bar, legend, sparkline, split_bar

LABEL = 10
VALUE = 7
TWO_COLUMNS = 76  # characters from which two metrics are shown side by side
SPARE_LINES = 4  # of the terminal's height, for the latest events and the cursor
SMOOTHING = 0.1  # weight of the newest step in the estimate of the time left
QUIET = "dim"

TRENDS = {  # key: (label, style)
    "reward/mean": ("reward", "green"),
    "reward/accuracy_mean": ("accuracy", "cyan"),
    "policy/entropy": ("entropy", "magenta"),
    "explore/difficult_frac": ("difficult", "yellow"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the dashboard; on a low terminal, rows with the highest number are left out first."""

    importance: int
    text: Text


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a long operation."""

    label: str
    done: int
    total: int


class Dashboard:
    """The latest state of a run.

    The console's thread draws it while the driver's thread writes it, so fields are replaced and never changed in place.
    """

    def __init__(self, cfg: Config, folder: Path, step: int) -> None:
        self._cfg = cfg
        self._folder = folder
        self._began = time.monotonic()
        self._stopped: float | None = None
        self._pace: float | None = None  # seconds a step
        self._trends = {key: Trend() for key in TRENDS}
        self._latest: dict[str, float] = {}
        self._first_eval: dict[str, float] = {}
        self._last_eval: dict[str, float] = {}
        self.step = step
        self.stage: str | None = None
        self.stage_began = self._began
        self.progress: Progress | None = None

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for key, trend in self._trends.items():
            if key in metrics:
                trend.add(metrics[key])
        took = metrics.get("time/step_s")
        if took is not None:
            self._pace = took if self._pace is None else (1 - SMOOTHING) * self._pace + SMOOTHING * took
        self._latest = metrics
        self.step = step

    def evaluation(self, metrics: dict[str, float]) -> None:
        self._first_eval = self._first_eval or metrics
        self._last_eval = metrics

    def freeze(self) -> None:
        """Stop the clock and clear stage and progress; the last state stays on the screen."""
        self._stopped = time.monotonic()
        self.stage = self.progress = None

    @property
    def elapsed(self) -> float:
        return (self._stopped or time.monotonic()) - self._began

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        pen = Pen(options.max_width, options.ascii_only, console.color_system is not None and not console.no_color)
        rows = self._rows(pen)
        height = max(3, console.height - SPARE_LINES)
        while len(rows) > height:
            least = max(reversed(rows), key=lambda row: row.importance)
            rows = [row for row in rows if row is not least]
        for row in rows:
            row.text.no_wrap = True
            row.text.overflow = "crop" if pen.ascii_only else "ellipsis"
            yield row.text

    def _rows(self, pen: Pen) -> list[Row]:
        rows = [Row(9, Text()), Row(5, self._title()), Row(8, self._place()), Row(0, self._steps(pen))]
        if self._latest:
            rows += [Row(9, Text()), *self._time(pen), Row(9, Text()), *self._metrics(pen), *self._algorithm(pen)]
        if self._last_eval:
            rows.append(Row(2, self._evaluation(pen)))
        if self.stage is not None:
            rows.append(Row(1, self._stage()))
        if self.progress is not None:
            rows.append(Row(1, self._progress(self.progress, pen)))
        return rows

    def _title(self) -> Text:
        return Text.assemble(("UEC-RL ", "bold cyan"), (self._folder.name, "bold"))

    def _place(self) -> Text:
        here = Path.cwd()
        folder = self._folder.relative_to(here) if self._folder.is_relative_to(here) else self._folder
        return Text(f"{self._cfg.algorithm} on {self._cfg.model.path}, folder {folder}", QUIET)

    def _steps(self, pen: Pen) -> Text:
        steps = self._cfg.train.steps
        head = f"step {self.step:>{len(str(steps))}}/{steps}  "
        tail = f"  {duration(self.elapsed)}"
        if self._pace is not None and self.step < steps:
            tail += f", {duration(self._pace * (steps - self.step))} left"
        bar = fill_bar(self.step, steps, max(4, pen.width - len(head) - len(tail)), "cyan", pen)
        return Text.assemble((head, "bold"), bar, tail)

    def _time(self, pen: Pen) -> list[Row]:
        """Return the breakdown of the step's time. With rollouts ahead, learners and engines work in parallel and have a bar each."""
        m = self._latest
        explore = m.get("time/explore_s", 0.0)
        rollouts = [
            Part("generate", "gen", m.get("time/generate_s", 0.0) - explore, "cyan", "█", "#"),
            Part("explore", "exp", explore, "yellow", "▓", "*"),
            Part("reward", "rew", m.get("time/reward_s", 0.0), "blue", "▚", "+"),
        ]
        learning = [
            Part("learn", "learn", m.get("time/learn_s", 0.0), "green", "▒", "="),
            Part("sync", "sync", m.get("time/sync_s", 0.0), "magenta", "░", "-"),
        ]
        took = m.get("time/step_s", 0.0)
        head = f"{decimal(took, 2) + ' s':<{VALUE + 1}}"
        tail = f"  {count(m.get('rollout/tokens_per_s'))} tokens/s"
        width = max(4, pen.width - LABEL - len(head) - len(tail))
        if not self._cfg.train.max_staleness:
            parts = _with_idle([*rollouts, *learning], took)
            bar = Text.assemble((f"{'step time':<{LABEL}}", QUIET), (head, "bold"), split_bar(parts, width, pen), tail)
            return [Row(3, bar), *(Row(6, line) for line in legend(parts, LABEL, pen))]
        learners = _with_idle(learning, took)
        engines = _with_idle([Part("busy", "busy", took - m.get("time/engine_idle_s", 0.0), "cyan", "█", "#")], took)
        return [
            Row(3, Text.assemble((f"{'learners':<{LABEL}}", QUIET), (head, "bold"), split_bar(learners, width, pen))),
            *(Row(6, line) for line in legend(learners, LABEL + len(head), pen)),
            Row(3, Text.assemble((f"{'engines':<{LABEL}}", QUIET), " " * len(head), split_bar(engines, width, pen), tail)),
            *(Row(6, line) for line in legend(engines, LABEL + len(head), pen)),
            # These began during earlier steps, so they are not part of this step's bars.
            Row(6, _labelled("rollouts", "", ", ".join(f"{part.name} {part.amount:.2f} s" for part in rollouts))),
        ]

    def _metrics(self, pen: Pen) -> list[Row]:
        """Return metrics with their trend over the run, one or (on a wide terminal) two on a line."""
        two = pen.width >= TWO_COLUMNS
        width = (pen.width - 2) // 2 if two else pen.width
        fields = [self._trend(key, width, pen) for key in TRENDS]
        if not two:
            return [Row(2, field) for field in fields]
        pairs = zip(fields[::2], fields[1::2], strict=True)
        return [Row(1, Text.assemble(left, " " * (width + 2 - left.cell_len), right)) for left, right in pairs]

    def _trend(self, key: str, width: int, pen: Pen) -> Text:
        label, style = TRENDS[key]
        value = self._latest.get(key)
        shown = share(value) if key.endswith("_frac") else decimal(value)
        line = sparkline(self._trends[key].points, width - LABEL - VALUE - 1, pen.ascii_only)
        return Text.assemble((f"{label:<{LABEL}}", QUIET), (f"{shown:<{VALUE}} ", "bold"), (line, style))

    def _algorithm(self, pen: Pen) -> list[Row]:
        """Return the rows on exploration, retention, replay store, engines and weights."""
        m = self._latest.get
        rows = []
        if self._cfg.exploration.enabled:
            groups = m("explore/groups")
            hot = m("explore/temperature")
            note = " solved" if hot is None else f" solved at t' {hot:.2f}"
            rows.append(Row(2, _labelled("explored", f"{solved(self._latest)} of {decimal(groups, 0)}", note)))
        kept = f": {m('retain/regular', 0.0):.0f} regular"
        if self._cfg.exploration.enabled:
            kept += f" + {m('retain/exploration', 0.0):.0f} exploration"
        if overlong := m("retain/overlong_dropped"):
            kept += f", {overlong:.0f} overlong dropped"
        rows.append(Row(2, _labelled("retained", share(m("retain/kept_frac")), kept)))
        if self._cfg.replay.enabled:
            size, full = m("replay/size", 0.0), self._cfg.replay_capacity()
            used = f", trained on {m('replay/used'):.0f}" if m("replay/used") else ""
            tail = f"  {size:.0f}/{full}{used}"
            bar = fill_bar(size, full, max(4, min(30, pen.width - LABEL - len(tail))), "blue", pen)
            rows.append(Row(3, Text.assemble((f"{'replay':<{LABEL}}", QUIET), bar, tail)))
        if rates := engine_rates(self._latest, self._cfg.rollout.engines, pen.width - LABEL):
            rows.append(Row(4, _labelled("engines" if self._cfg.rollout.engines > 1 else "engine", rates, " tokens/s")))
        version = f"v{m('weights/version', 0.0):.0f}"
        gap = m("policy/rollout_logprob_gap_max")
        rows.append(Row(7, _labelled("weights", version, f", engines within {gap:.0e} nats of the learner" if gap is not None else "")))
        return rows

    def _evaluation(self, pen: Pen) -> Text:
        """Return pass@k of the last evaluation and, if there is room, its gain over the first."""
        for gain in (True, False):
            line = _labelled("held out", "", "")  # Text(style=...) would also colour the appended text
            for key in pass_keys(self._last_eval):
                change = self._last_eval[key] - self._first_eval.get(key, self._last_eval[key])
                line.append(f"{key.removeprefix('eval/')} ", QUIET)
                line.append(decimal(self._last_eval[key]), "bold")
                line.append(f" {change:+.3f}  " if gain and change else "  ", "green" if change > 0 else "red")
            line.rstrip()
            if line.cell_len <= pen.width:
                break
        return line

    def _stage(self) -> Text:
        return Text.assemble((f"{self.stage}", "bold"), (f"  {seconds(time.monotonic() - self.stage_began)}", QUIET))

    def _progress(self, progress: Progress, pen: Pen) -> Text:
        tail = f"  {progress.done}/{progress.total}"
        head = f"{progress.label}  "
        bar = fill_bar(progress.done, progress.total, max(4, pen.width - len(head) - len(tail)), "yellow", pen)
        return Text.assemble(head, bar, tail)


def _with_idle(parts: list[Part], took: float) -> list[Part]:
    """Return the parts of a step of `took` seconds, with the remaining time as an idle part."""
    return [*parts, Part("idle", "idle", max(0.0, took - sum(part.amount for part in parts)), QUIET, "·", ".")]


def _labelled(label: str, value: str, note: str) -> Text:
    return Text.assemble((f"{label:<{LABEL}}", QUIET), (value, "bold"), note)
