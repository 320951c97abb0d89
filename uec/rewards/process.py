"""The parent's side of one grading process: start it, send it responses, enforce the time limit, kill it."""

import contextlib
import fcntl
import json
import math
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Any

from uec.config.schema import RewardConfig
from uec.errors import BadInput, RunFailed
from uec.rewards.reward_function import ACCURACY, GradingError, list_names, weigh
from uec.rewards.wire import LONGEST_LINE, POSITION, PROGRESS_BYTES, STARTED, Task, frame

START_TIMEOUT_S = 300.0
# Between checks whether the process still runs: a child that it left behind may hold its pipe open.
CHECK_S = 0.5
LAST_WORDS = 600  # bytes of its standard error that a message quotes
BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from uec.rewards.worker import main; main(*map(int, sys.argv[2:]))"


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of one response."""

    reward: float  # weighted sum of parts; `reward.on_error` if grading failed
    accuracy: float  # the part that difficulty reads; `reward.on_error` if grading failed
    parts: dict[str, float]  # empty if grading failed
    error: str | None = None  # why grading failed
    timed_out: bool = False


class GradingProcess:
    """A process that grades batches of responses. One thread uses it, and the thread that made it must outlive it.

    On Linux it is killed when that thread ends, so it also ends when its parent is killed.
    """

    def __init__(self, cfg: RewardConfig, output: int | None = None) -> None:
        """Start the process and wait until it has loaded the reward functions.

        `output` is the file descriptor for everything that they print; None drops it. Raises BadInput if they cannot be
        loaded, RunFailed if the process does not start.
        """
        self._cfg = cfg
        self._names = " + ".join(list_names(cfg.fn))
        progress = tempfile.TemporaryFile()
        progress.truncate(PROGRESS_BYTES)
        self._shared = mmap.mmap(progress.fileno(), PROGRESS_BYTES)
        self._stderr = tempfile.TemporaryFile()
        # In append mode, so that the process can truncate the file while it writes.
        fcntl.fcntl(self._stderr, fcntl.F_SETFL, os.O_APPEND)
        their_commands, self._commands = os.pipe()
        self._results, their_results = os.pipe()
        theirs = (their_commands, their_results, progress.fileno())
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT, json.dumps(sys.path), *map(str, theirs), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if output is None else output,
                stderr=self._stderr,
                pass_fds=theirs,
                start_new_session=True,  # a new process group: Ctrl-C does not reach it, and it is killed together with its children
            )
        finally:
            os.close(their_commands)
            os.close(their_results)
            progress.close()
        os.set_blocking(self._commands, False)
        os.set_blocking(self._results, False)
        self._received = bytearray()
        self._reaping = threading.Lock()
        self._ended = False  # the result pipe is closed, or the process was seen to have ended
        self.closed = False
        self._start()

    def grade(self, batch: list[Task]) -> dict[int, Grade]:
        """Return grades by position in the batch: all, or only some if the process had to be closed.

        If the process hangs, ends or sends nonsense, the response that it was grading gets a failed grade. The responses
        without a grade were not finished, and need another process.
        """
        grades: dict[int, Grade] = {}
        POSITION.pack_into(self._shared, 0, -1)
        STARTED.pack_into(self._shared, 8, time.monotonic())
        unsent = memoryview(frame([(task.response, task.answer, task.row) for task in batch]))
        try:
            while len(grades) < len(batch):
                unsent = self._transfer(unsent, self._began() + self._cfg.timeout_s)
                self._collect(grades, len(batch))
                if len(grades) < len(batch) and (self._ended or time.monotonic() - self._began() >= self._cfg.timeout_s):
                    self._abort(grades, len(batch))
                    break
        except ValueError as nonsense:
            self.interrupt()
            self._blame(grades, len(batch), self.failure(f"its grading process sent no result but {nonsense}"))
            self.close()
        if self._ended:  # after its last result
            self.close()
        return grades

    def failure(self, error: str, timed_out: bool = False) -> Grade:
        """Return the grade of a response that could not be graded."""
        return Grade(self._cfg.on_error, self._cfg.on_error, {}, error, timed_out)

    def interrupt(self) -> None:
        """Kill the process. Any thread may call it; a running `grade` then returns soon."""
        with self._reaping:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def close(self) -> None:
        """Kill the process and its process group, and free its files. A second call does nothing."""
        if self.closed:
            return
        self.closed = True
        self.interrupt()
        os.close(self._commands)
        os.close(self._results)
        self._shared.close()
        self._stderr.close()

    def _start(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        unsent = memoryview(frame(self._cfg))
        answer: list[Any] = []
        try:
            while not answer:
                unsent = self._transfer(unsent, deadline)
                answer = next(iter(self._lines()), [])
                if not answer and (self._ended or time.monotonic() >= deadline):
                    why = f"ended{self._cause()}" if self._ended else f"took longer than {START_TIMEOUT_S:.0f} s"
                    raise RunFailed(f"reward.fn={self._cfg.fn}: its grading process {why} while it loaded the function")
            if answer != ["ready"]:
                raise BadInput(str(answer[-1]))
        except BaseException:
            self.close()
            raise

    def _transfer(self, unsent: memoryview, deadline: float) -> memoryview:
        """Wait until either pipe is ready, then write and read without blocking. Return the bytes still to be written."""
        poll = select.poll()
        poll.register(self._results, select.POLLIN)
        if unsent:
            poll.register(self._commands, select.POLLOUT)
        ready = dict(poll.poll(max(0.0, min(deadline - time.monotonic(), CHECK_S)) * 1000))
        if self._commands in ready:
            try:
                unsent = unsent[os.write(self._commands, unsent) :]
            except BlockingIOError:
                pass  # the free space is smaller than the piece that the kernel writes at once
            except BrokenPipeError:
                self._ended = True
        if self._results in ready:
            self._read()
        elif not ready and not self._alive():
            self._ended = True
        return unsent

    def _read(self) -> None:
        """Read the bytes that have arrived, at most about a longest line at a time; the next call continues."""
        while len(self._received) <= LONGEST_LINE:
            try:
                piece = os.read(self._results, 1 << 16)
            except BlockingIOError:
                return
            if not piece:
                self._ended = True
                return
            self._received += piece

    def _lines(self) -> list[Any]:
        """Return the JSON lines that have arrived. Raises ValueError for anything else."""
        *lines, rest = self._received.split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise ValueError(f"a line of more than {LONGEST_LINE} bytes")
        self._received = rest
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError) as error:
            raise ValueError(f"text that is no JSON: {bytes(lines[0][:100])!r}") from error

    def _collect(self, grades: dict[int, Grade], n: int) -> None:
        """Take the results that have arrived. Raises ValueError for a line that holds anything else."""
        for line in self._lines():
            for entry in line if isinstance(line, list) else [line]:
                if not isinstance(entry, list) or len(entry) != 3:
                    raise ValueError(f"{entry!r:.200}")
                position, parts, error = entry
                if not isinstance(position, int) or not _is_open(position, n, grades):
                    raise ValueError(f"{entry!r:.200}, which is no open position of {n}")
                if not (_are_parts(parts) and error is None) and not (parts is None and isinstance(error, str)):
                    raise ValueError(f"{entry!r:.200}")
                grades[position] = self._weigh(parts) if error is None else self.failure(error)

    def _weigh(self, parts: dict[str, float]) -> Grade:
        try:
            return Grade(weigh(self._names, parts, self._cfg.weights), parts[ACCURACY], parts)
        except GradingError as error:
            return self.failure(str(error))

    def _abort(self, grades: dict[int, Grade], n: int) -> None:
        """Kill the process, take the results that it had sent, and fail the response that it was grading."""
        late = not self._ended
        self.interrupt()
        killed = time.monotonic()
        self._read()
        self._collect(grades, n)
        if not late:
            self._blame(grades, n, self.failure(f"its grading process ended{self._cause()}"))
        elif killed - self._began() >= self._cfg.timeout_s:  # otherwise that one finished just in time, and the next had begun
            error = f"grading took longer than reward.timeout_s = {self._cfg.timeout_s:g} s and was stopped"
            self._blame(grades, n, self.failure(error, timed_out=True))
        self.close()

    def _blame(self, grades: dict[int, Grade], n: int, failure: Grade) -> None:
        """Give the failed grade to the response that is being graded."""
        (position,) = POSITION.unpack_from(self._shared, 0)
        if _is_open(position, n, grades):
            grades[position] = failure

    def _began(self) -> float:
        return float(STARTED.unpack_from(self._shared, 8)[0])

    def _alive(self) -> bool:
        """Return whether the process runs, without reaping it: until it is reaped, no other process group gets its id."""
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def _cause(self) -> str:
        """Return how an ended process ended, for a message."""
        self.interrupt()
        code = self._process.returncode
        how = f" by {signal.Signals(-code).name}" if code < 0 else f" with exit status {code}"
        size = os.fstat(self._stderr.fileno()).st_size
        words = os.pread(self._stderr.fileno(), LAST_WORDS, max(0, size - LAST_WORDS)).decode(errors="replace").strip()
        return f"{how}; its last words: {words}" if words else how


def _is_open(position: int, n: int, grades: dict[int, Grade]) -> bool:
    return 0 <= position < n and position not in grades


def _are_parts(parts: Any) -> bool:
    return isinstance(parts, dict) and all(isinstance(value, float) and math.isfinite(value) for value in parts.values())
