"""The console: a live picture on a terminal, plain lines anywhere else."""

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
from uec.tracking.board import Board, Progress
from uec.tracking.figures import duration, seconds
from uec.tracking.plain import PlainConsole, evaluation_line
from uec.tracking.sink import Sink
from uec.tracking.summary import Summary, show

REFRESH_S = 0.5  # a picture costs a few milliseconds of the driver's interpreter


class LiveConsole(Sink):
    """A picture at the foot of the terminal; stages, events and evaluations scroll away above it.

    A thread of its own draws it: the driver only leaves figures.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._size = console.size
        self._said: deque[Table] = deque(maxlen=20)
        self._lock = RLock()  # one thread at a time starts, stops or draws
        self._live: Live | None = None
        self._board: Board | None = None
        self._ended = Event()

    def start(self, cfg: Config, folder: Path, step: int) -> None:
        self._board = Board(cfg, folder, step)
        self._show()
        # Whatever way the process ends, the cursor comes back.
        atexit.register(self.close, False)
        Thread(target=self._draw, name="console", daemon=True).start()

    def stage(self, text: str) -> None:
        board = self._on()
        if board.stage is not None and board.stage.partition(":")[0] != text.partition(":")[0]:
            self._stage_done(board)
        if board.stage is None:
            board.stage_began = time.monotonic()
        board.stage = text

    def progress(self, label: str, done: int, total: int) -> None:
        self._on().progress = Progress(label, done, total) if done < total else None

    def log(self, step: int, metrics: dict[str, float]) -> None:
        board = self._on()
        self._stage_done(board)
        board.progress = None
        board.log(step, metrics)

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        board = self._on()
        board.stage = board.progress = None  # the result says that it is done
        board.evaluation(metrics)
        self._say(Text(evaluation_line(step, metrics)))

    def event(self, text: str) -> None:
        self._say(Text(text))

    def finish(self, summary: Summary) -> None:
        self._hide()
        self._console.print()
        show(summary, self._console)

    def close(self, ok: bool) -> None:
        self._hide()
        atexit.unregister(self.close)

    def _on(self) -> Board:
        assert self._board is not None, "start() comes first"
        return self._board

    def _stage_done(self, board: Board) -> None:
        if board.stage is not None:
            self._say(Text(f"{board.stage} ({seconds(time.monotonic() - board.stage_began)})", style="dim"))
            board.stage = None

    def _say(self, text: Text) -> None:
        line = Table.grid(padding=(0, 2))  # a long text is continued under itself, not under the clock
        line.add_row(Text(f"{duration(self._on().elapsed):>6}", style="dim"), text)
        self._said.append(line)
        self._console.print(line)

    def _show(self) -> None:
        with self._lock:
            self._live = Live(self._board, console=self._console, auto_refresh=False)
            self._live.start(refresh=True)

    def _hide(self) -> None:
        with self._lock:
            self._ended.set()
            if self._live is not None:
                self._on().freeze()
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
        """A terminal of another size has wrapped the picture's old lines: begin again on a clear screen."""
        self._size = self._console.size
        live.stop()
        self._console.clear()
        for line in self._said:
            self._console.print(line)
        self._show()


def console_sink() -> Sink:
    """The sink that suits stdout. Not rich's judgement, which FORCE_COLOR turns: a file must never hold control characters."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a prompt or path that stdout cannot show must not end the run
    if sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown"):
        return LiveConsole(Console(highlight=False))
    return PlainConsole()
