"""One voice for a run: the Controller says a thing once, and every sink of `tracking` shows or writes it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from uec.config.schema import Config
from uec.tracking.metrics import finite
from uec.tracking.sink import Sink
from uec.tracking.summary import Course, Summary, read_course


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
    """Hands on what the Controller reports; as a context manager it leaves the terminal and the files in order, whatever happens.

    >>> with make_tracker(cfg) as tracker:
    ...     tracker.start(cfg, folder)
    ...     tracker.log(1, {"reward/mean": 0.3})
    ...     tracker.finish(tracker.summary(wall_s))
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)
        self._started: list[Sink] = []
        self._folder = Path()
        self._course = Course()

    def start(self, cfg: Config, folder: Path, step: int = 0) -> None:
        """Open every sink. `folder`: the run's, it exists; `step`: the last one done, above 0 when a run is resumed.

        Raises BadInput if a service cannot be reached or does not know the user.
        """
        self._folder = folder
        lines = []
        for sink in self._sinks:
            self._started.append(sink)
            line = sink.start(cfg, folder, step)
            if line is not None:
                lines.append(line)
        for line in lines:
            self.event(line)
        if step:
            # By now metrics.jsonl is cut to that step.
            self._course = read_course(folder)

    def stage(self, text: str) -> None:
        """What is going on outside the steps: "starting 5 actors: learner ready".

        A stage lasts until the next one or the next step. The same words before the colon bring the running stage up to date.
        """
        for sink in self._started:
            sink.stage(text)

    def progress(self, label: str, done: int, total: int) -> None:
        """How far something long has come; its bar goes when `done` reaches `total`. Cheap: call it as often as you like."""
        for sink in self._started:
            sink.progress(label, done, total)

    def log(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """The figures of a step (keys of uec/tracking/metrics.py). None, NaN and infinity are left out."""
        figures = finite(metrics)
        self._course.log(step, figures)
        for sink in self._started:
            sink.log(step, figures)

    def evaluation(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """The `eval/` figures after `step` steps; 0: of the start model."""
        figures = finite(metrics)
        self._course.evaluation(step, figures)
        for sink in self._started:
            sink.evaluation(step, figures)

    def event(self, text: str) -> None:
        """Something that a person must know: "engine rollout-0 died: out of memory; restarted"."""
        for sink in self._started:
            sink.event(text)

    def summary(self, wall_s: float) -> Summary:
        """What the run came to, `wall_s` seconds after it began; with the steps before a resume, if metrics.jsonl tells of them."""
        return self._course.summary(self._folder, wall_s)

    def finish(self, summary: Summary) -> None:
        """The run's end: the table, and every sink closed."""
        for sink in self._started:
            sink.finish(summary)
        self.close()

    def close(self, ok: bool = True) -> None:
        """Close every sink, also if one of them fails to; again: nothing. `ok`: False if the run failed."""
        with ExitStack() as stack:
            while self._started:
                # The last to start is the console and the last entered is the first closed: a failing upload must not keep the terminal.
                stack.callback(self._started.pop(0).close, ok)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(ok=kind is None)


def make_tracker(cfg: Config) -> Tracker:
    """The sinks that `tracking` names. Raises BadInput for one whose package is not installed."""
    # In SINKS' order: services that may fail or ask for a login come before the console takes the terminal.
    return Tracker([SINKS[name]() for name in sorted(cfg.tracking, key=list(SINKS).index)])
