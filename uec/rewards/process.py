"""One grading process as its parent sees it: started, fed, watched by the clock, killed."""

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
from typing import Any

from uec.config.schema import RewardConfig
from uec.errors import BadInput, RunFailed
from uec.rewards.wire import LONGEST_LINE, POSITION, PROGRESS_BYTES, STARTED, Result, Task, frame

START_TIMEOUT_S = 300.0
# Between looks at whether the process still lives: a child that it left behind may hold its pipe open.
LOOK_S = 0.5
LAST_WORDS = 600
BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from uec.rewards.worker import main; main(*map(int, sys.argv[2:]))"


class GradingProcess:
    """A process that grades batches of responses. Used by one thread, and the thread that made it must outlive it.

    On Linux it is killed when that thread ends, which is what takes it down with a parent that is killed itself.
    """

    def __init__(self, cfg: RewardConfig, output: int | None = None) -> None:
        """`output`: the file descriptor that gets what the reward functions print; none: it is dropped.

        Raises BadInput if the reward functions cannot be loaded, RunFailed if the process does not come up.
        """
        self._timeout_s = cfg.timeout_s
        progress = tempfile.TemporaryFile()
        progress.truncate(PROGRESS_BYTES)
        self._shared = mmap.mmap(progress.fileno(), PROGRESS_BYTES)
        self._stderr = tempfile.TemporaryFile()
        # Appending, so that the process can cut the file while it writes.
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
                start_new_session=True,  # a group of its own: Ctrl-C does not reach it, and it dies with its children
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
        self._start(cfg)

    def grade(self, batch: list[Task]) -> dict[int, Result]:
        """Results by position in the batch, all of them or, if the process had to be closed, some.

        A process that hangs, ends or sends nonsense costs the response that it was grading, whose result is the error.
        The responses without a result were not finished and want another process.
        """
        results: dict[int, Result] = {}
        POSITION.pack_into(self._shared, 0, -1)
        STARTED.pack_into(self._shared, 8, time.monotonic())
        unsent = memoryview(frame([(task.response, task.answer, task.row) for task in batch]))
        try:
            while len(results) < len(batch):
                unsent = self._exchange(unsent, self._began() + self._timeout_s)
                self._collect(results, len(batch))
                if len(results) < len(batch) and (self._ended or time.monotonic() - self._began() >= self._timeout_s):
                    self._bury(results, len(batch))
                    break
        except ValueError as nonsense:
            self.interrupt()
            self._blame(results, len(batch), Result(None, f"its grading process sent no result but {nonsense}"))
            self.close()
        if self._ended:  # after its last result
            self.close()
        return results

    def interrupt(self) -> None:
        """Kill the process, from any thread: a `grade` under way returns soon."""
        with self._reaping:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def close(self) -> None:
        """End the process and what it started in its group. Twice does no harm."""
        if self.closed:
            return
        self.closed = True
        self.interrupt()
        os.close(self._commands)
        os.close(self._results)
        self._shared.close()
        self._stderr.close()

    def _start(self, cfg: RewardConfig) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        unsent = memoryview(frame(cfg))
        answer: list[Any] = []
        try:
            while not answer:
                unsent = self._exchange(unsent, deadline)
                answer = next(iter(self._lines()), [])
                if not answer and (self._ended or time.monotonic() >= deadline):
                    why = f"ended{self._cause()}" if self._ended else f"took longer than {START_TIMEOUT_S:.0f} s"
                    raise RunFailed(f"reward.fn={cfg.fn}: its grading process {why} while it loaded the function")
            if answer != ["ready"]:
                raise BadInput(str(answer[-1]))
        except BaseException:
            self.close()
            raise

    def _exchange(self, unsent: memoryview, deadline: float) -> memoryview:
        """Write and read what goes without waiting, after waiting for either; returns what is still to be written."""
        poll = select.poll()
        poll.register(self._results, select.POLLIN)
        if unsent:
            poll.register(self._commands, select.POLLOUT)
        ready = dict(poll.poll(max(0.0, min(deadline - time.monotonic(), LOOK_S)) * 1000))
        if self._commands in ready:
            try:
                unsent = unsent[os.write(self._commands, unsent) :]
            except BlockingIOError:
                pass  # the free space is smaller than what the kernel writes in one piece
            except BrokenPipeError:
                self._ended = True
        if self._results in ready:
            self._read()
        elif not ready and not self._alive():
            self._ended = True
        return unsent

    def _read(self) -> None:
        """Take what has arrived; reading stops short of a flood, and goes on at the next call."""
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
        """The JSON lines that have arrived. Raises ValueError for anything else."""
        *lines, rest = self._received.split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise ValueError(f"a line of more than {LONGEST_LINE} bytes")
        self._received = rest
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError) as error:
            raise ValueError(f"text that is no JSON: {bytes(lines[0][:100])!r}") from error

    def _collect(self, results: dict[int, Result], n: int) -> None:
        """Take the results that have arrived. Raises ValueError for a line that holds anything else."""
        for line in self._lines():
            for entry in line if isinstance(line, list) else [line]:
                if not isinstance(entry, list) or len(entry) != 3:
                    raise ValueError(f"{entry!r:.200}")
                position, parts, error = entry
                if not isinstance(position, int) or not _is_new(position, n, results):
                    raise ValueError(f"{entry!r:.200}, which is no open position of {n}")
                if not (_are_parts(parts) and error is None) and not (parts is None and isinstance(error, str)):
                    raise ValueError(f"{entry!r:.200}")
                results[position] = Result(parts, error)

    def _bury(self, results: dict[int, Result], n: int) -> None:
        """Kill the process, save the results that it had sent, and blame what it was grading."""
        late = not self._ended
        self.interrupt()
        killed = time.monotonic()
        self._read()
        self._collect(results, n)
        if not late:
            self._blame(results, n, Result(None, f"its grading process ended{self._cause()}"))
        elif killed - self._began() >= self._timeout_s:  # else that one finished just in time, and the next had begun
            error = f"grading took longer than reward.timeout_s = {self._timeout_s:g} s and was stopped"
            self._blame(results, n, Result(None, error, timed_out=True))
        self.close()

    def _blame(self, results: dict[int, Result], n: int, result: Result) -> None:
        (position,) = POSITION.unpack_from(self._shared, 0)
        if _is_new(position, n, results):
            results[position] = result

    def _began(self) -> float:
        return float(STARTED.unpack_from(self._shared, 8)[0])

    def _alive(self) -> bool:
        """Without reaping it: until then its id names this process group and no other."""
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def _cause(self) -> str:
        """How an ended process came to its end, for a message."""
        self.interrupt()
        code = self._process.returncode
        how = f" by {signal.Signals(-code).name}" if code < 0 else f" with exit status {code}"
        size = os.fstat(self._stderr.fileno()).st_size
        words = os.pread(self._stderr.fileno(), LAST_WORDS, max(0, size - LAST_WORDS)).decode(errors="replace").strip()
        return f"{how}; its last words: {words}" if words else how


def _is_new(position: int, n: int, results: dict[int, Result]) -> bool:
    return 0 <= position < n and position not in results


def _are_parts(parts: Any) -> bool:
    return isinstance(parts, dict) and all(isinstance(value, float) and math.isfinite(value) for value in parts.values())
