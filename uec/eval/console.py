"""The console of an evaluation: a progress bar on a terminal, plain progress lines otherwise."""

import os
import sys
import time
from io import TextIOWrapper

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from uec.tracking.number_format import duration
from uec.tracking.sink import Sink

PROGRESS_S = 10.0  # minimum seconds between two progress lines


class PlainProgress(Sink):
    """Prints each stage and event as a line, and progress at most every PROGRESS_S seconds."""

    def __init__(self) -> None:
        self._began = self._last_printed = time.monotonic()

    def stage(self, text: str) -> None:
        self._last_printed = time.monotonic()
        self.event(text)

    def event(self, text: str) -> None:
        try:
            print(f"{duration(time.monotonic() - self._began):>6}  {text}", flush=True)
        except BrokenPipeError:
            # The reader of the pipe has ended (`| head`). The evaluation continues, and the flush at exit must not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def progress(self, label: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._last_printed > PROGRESS_S:
            self._last_printed = now
            self.event(f"{label} {done}/{total}")


class ProgressBar(Sink):
    """Draws a bar at the bottom of the terminal; events scroll above it."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None

    def stage(self, text: str) -> None:
        self._show(text.partition(":")[0], 0, None)

    def event(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def progress(self, label: str, done: int, total: int) -> None:
        self._show(label, done, total)
        if done == total:
            self.event(f"{label} {done}/{total}")

    def close(self, ok: bool) -> None:
        self._progress.stop()

    def _show(self, label: str, done: int, total: int | None) -> None:
        if self._task is None:
            self._progress.start()
        elif self._progress.tasks[0].description != label:
            self._progress.remove_task(self._task)
            self._task = None
        if self._task is None:
            self._task = self._progress.add_task(label, total=total)
        self._progress.update(self._task, completed=done)


def evaluation_sink() -> Sink:
    """Return a progress bar if stdout is a terminal, else plain lines without control characters."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that stdout cannot encode must not end the evaluation
    if sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown"):
        return ProgressBar(Console(highlight=False))
    return PlainProgress()
