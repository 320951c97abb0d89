"""The Tracker passes metrics, stages and events of a run to every sink of `tracking`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from uec.config.schema import Config, WarnConfig
from uec.tracking.alarms import Alarms
from uec.tracking.failure import Failure
from uec.tracking.metrics import finite
from uec.tracking.metrics_file import METRICS_FILE, read_metrics
from uec.tracking.sink import Sink
from uec.tracking.summary import RunHistory, Summary, read_history


def _console() -> Sink:
    from uec.tracking.console import console_sink

    return console_sink()


def _jsonl() -> Sink:
    from uec.tracking.jsonl import JsonlSink

    return JsonlSink()


def _tensorboard() -> Sink:
    from uec.tracking.tensorboard import TensorboardSink

    return TensorboardSink()


def _wandb() -> Sink:
    from uec.tracking.wandb import WandbSink

    return WandbSink()


SINKS: dict[str, Callable[[], Sink]] = {"jsonl": _jsonl, "tensorboard": _tensorboard, "wandb": _wandb, "console": _console}


class Tracker:
    """Passes the Controller's reports to the sinks; as a context manager it always restores the terminal and closes the files.

    >>> with make_tracker(cfg) as tracker:
    ...     tracker.start(cfg, folder)
    ...     tracker.log(1, {"reward/mean": 0.3})
    ...     tracker.finish(tracker.summary(wall_s))
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)
        self._started: list[Sink] = []
        self._folder = Path()
        self._history = RunHistory()
        self._alarms = Alarms(WarnConfig())

    def start(self, cfg: Config, folder: Path, step: int = 0) -> None:
        """Open every sink. `folder`: the existing run folder; `step`: the last completed one, above 0 when a run is resumed.

        Raises BadInput if a service cannot be reached or rejects the user.
        """
        self._folder = folder
        self._alarms = Alarms(cfg.warn)
        lines = []
        for sink in self._sinks:
            self._started.append(sink)
            line = sink.start(cfg, folder, step)
            if line is not None:
                lines.append(line)
        for line in lines:
            self.event(line)
        if step:
            # metrics.jsonl has been truncated to that step.
            self._history = read_history(folder)
            path = folder / METRICS_FILE
            for row in read_metrics(path) if path.exists() else []:
                self._alarms.look(row)

    def stage(self, text: str) -> None:
        """Report an activity outside the steps, such as "starting 5 actors: learner ready".

        A stage lasts until the next one or the next step. The same words before the colon update the current stage.
        """
        for sink in self._started:
            sink.stage(text)

    def progress(self, label: str, done: int, total: int) -> None:
        """Report the progress of a long operation; its bar disappears when `done` reaches `total`. Cheap enough for frequent calls."""
        for sink in self._started:
            sink.progress(label, done, total)

    def log(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Report the metrics of a step (keys of uec/tracking/metrics.py). None, NaN and infinity are left out."""
        kept = finite(metrics)
        self._history.log(step, kept)
        for sink in self._started:
            sink.log(step, kept)
        for line in self._alarms.look(kept):
            self.event(f"warning: {line}")

    def evaluation(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Report the `eval/` metrics after `step` steps; step 0 is the initial model."""
        kept = finite(metrics)
        self._history.evaluation(step, kept)
        for sink in self._started:
            sink.evaluation(step, kept)

    def event(self, text: str) -> None:
        """Report an event that the user must know, such as "engine rollout-0 died: out of memory; restarted"."""
        for sink in self._started:
            sink.event(text)

    def actor_failed(self, failure: Failure) -> None:
        """Report a failure of an actor, and what was done about it."""
        for sink in self._started:
            sink.actor_failed(failure)

    def summary(self, wall_s: float) -> Summary:
        """Return the summary, `wall_s` seconds after the start; it includes the steps before a resume that metrics.jsonl has."""
        return self._history.summary(self._folder, wall_s)

    def finish(self, summary: Summary) -> None:
        """Show the summary and close every sink."""
        for sink in self._started:
            sink.finish(summary)
        self.close()

    def close(self, ok: bool = True) -> None:
        """Close every sink, even if one of them raises; a second call does nothing. `ok`: False if the run failed."""
        with ExitStack() as stack:
            while self._started:
                # The stack closes the console first, which started last: a failing upload must not keep the terminal.
                stack.callback(self._started.pop(0).close, ok)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(ok=kind is None)


def make_tracker(cfg: Config) -> Tracker:
    """Return a tracker with the sinks that `tracking` names. Raises BadInput for one whose package is not installed."""
    # Sorted in the order of SINKS: services that may fail or ask for a login start before the console takes the terminal.
    return Tracker([SINKS[name]() for name in sorted(cfg.tracking, key=list(SINKS).index)])
