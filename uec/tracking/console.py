"""The console: a live dashboard on a terminal, plain lines otherwise."""

import atexit
import os
import sys
import time
from collections import deque
from io import TextIOWrapper
from pathlib import Path
from threading import Event, RLock, Thread

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from uec.config.schema import Config
from uec.tracking.dashboard import Dashboard, Progress
from uec.tracking.number_format import duration, seconds
from uec.tracking.plain_console import PlainConsole, evaluation_line
from uec.tracking.sink import Sink
from uec.tracking.summary import Summary, show

REFRESH_S = 0.5  # drawing costs the driver a few milliseconds


class LiveConsole(Sink):
    """Draws the dashboard at the bottom of the terminal, from a separate thread; stages, events and evaluations scroll above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._size = console.size
        self._lines: deque[Table] = deque(maxlen=20)
        self._lock = RLock()  # held to start, stop or draw
        self._live: Live | None = None
        self._dashboard: Dashboard | None = None
        self._ended = Event()

    def start(self, cfg: Config, folder: Path, step: int) -> None:
        self._dashboard = Dashboard(cfg, folder, step)
        self._show()
        # Restores the cursor however the process ends.
        atexit.register(self.close, False)
        Thread(target=self._draw, name="console", daemon=True).start()

    def stage(self, text: str) -> None:
        dashboard = self._started()
        if dashboard.stage is not None and dashboard.stage.partition(":")[0] != text.partition(":")[0]:
            self._end_stage(dashboard)
        if dashboard.stage is None:
            dashboard.stage_began = time.monotonic()
        dashboard.stage = text

    def progress(self, label: str, done: int, total: int) -> None:
        self._started().progress = Progress(label, done, total) if done < total else None

    def log(self, step: int, metrics: dict[str, float]) -> None:
        dashboard = self._started()
        self._end_stage(dashboard)
        dashboard.progress = None
        dashboard.log(step, metrics)

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        dashboard = self._started()
        dashboard.stage = dashboard.progress = None  # the line with the result shows that the evaluation is done
        dashboard.evaluation(metrics)
        self._print(Text(evaluation_line(step, metrics)))

    def event(self, text: str) -> None:
        self._print(Text(text))

    def finish(self, summary: Summary) -> None:
        self._hide()
        self._console.print()
        show(summary, self._console)

    def close(self, ok: bool) -> None:
        self._hide()
        atexit.unregister(self.close)

    def _started(self) -> Dashboard:
        assert self._dashboard is not None, "start() comes first"
        return self._dashboard

    def _end_stage(self, dashboard: Dashboard) -> None:
        if dashboard.stage is not None:
            self._print(Text(f"{dashboard.stage} ({seconds(time.monotonic() - dashboard.stage_began)})", style="dim"))
            dashboard.stage = None

    def _print(self, text: Text) -> None:
        line = Table.grid(padding=(0, 2))  # wraps a long text under itself, not under the clock
        line.add_row(Text(f"{duration(self._started().elapsed):>6}", style="dim"), text)
        self._lines.append(line)
        self._console.print(line)

    def _show(self) -> None:
        with self._lock:
            self._live = Live(self._dashboard, console=self._console, auto_refresh=False)
            self._live.start(refresh=True)

    def _hide(self) -> None:
        with self._lock:
            self._ended.set()
            if self._live is not None:
                self._started().freeze()
                self._live.stop()
                self._live = None

    def _draw(self) -> None:
        while not self._ended.wait(REFRESH_S):
            with self._lock:
                if self._live is None:
                    return
                if self._console.size == self._size:
                    self._live.refresh()
                else:
                    self._redraw(self._live)

    def _redraw(self, live: Live) -> None:
        """Draw again on a clear screen: a terminal that was resized has wrapped the old lines."""
        self._size = self._console.size
        live.stop()
        self._console.clear()
        for line in self._lines:
            self._console.print(line)
        self._show()


def console_sink() -> Sink:
    """Return the live console if stdout is a terminal, else the plain one.

    rich's detection is not used: FORCE_COLOR overrides it, and a file must never contain control characters.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a prompt or path that stdout cannot encode must not end the run
    if sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown"):
        return LiveConsole(Console(highlight=False))
    return PlainConsole()
