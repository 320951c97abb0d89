"""The other side of a ratio: plain code without Ray, in a process of its own, driven through a pipe.

`python -m bench.bare FD` is that process; `Bare` starts it. It may run in another environment than the project's: nothing that
has to be installed is imported here.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import traceback
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from uec.errors import RunFailed

PROJECT = Path(__file__).resolve().parent.parent
STOP_S = 10.0


class Bare:
    """An object in another process: `with Bare("bench.bare_loop:BareLoop", args, environment, log) as loop: loop.call("update", ...)`.

    It is made while the caller goes on; the first call waits for it. `log` takes its output, `python` is the interpreter to use.
    """

    def __init__(
        self, factory: str, args: tuple[Any, ...], environment: dict[str, str], log: Path, python: str | Path = sys.executable
    ) -> None:
        self.name = factory.rpartition(":")[2]
        self._log = log
        self._args = (factory, args)
        self._environment = environment
        self._python = python

    def __enter__(self) -> Self:
        self._pipe, theirs = Pipe()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._python, "-m", "bench.bare", str(theirs.fileno())],
                cwd=PROJECT,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                process_group=0,  # vLLM starts processes of its own, which have to end with it; a session would get CPU shares of its own
            )
        theirs.close()
        self._pipe.send(self._args)
        self._made = False
        return self

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ready(self) -> None:
        """Wait until the object is made."""
        if not self._made:
            self._receive()
            self._made = True

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the object; raises RunFailed with the other process's traceback."""
        self.ready()
        self._pipe.send((method, args))
        return self._receive()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pipe.close()  # the process takes this for the end
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _receive(self) -> Any:
        try:
            failed, answer = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise RunFailed(f"the process of {self.name} ended with status {self._process.wait()}; see {self._log}") from error
        if failed:
            raise RunFailed(f"{self.name} failed: {answer.strip().splitlines()[-1]}; see {self._log}\n{answer}")
        return answer


def _serve(pipe: Connection) -> None:
    """Make the object that the first message names, then do as asked until the other end closes."""
    made: Any = None
    with contextlib.suppress(EOFError):
        while True:
            name, args = pipe.recv()
            try:
                if made is None:
                    module, _, factory = name.rpartition(":")
                    made, answer = getattr(importlib.import_module(module), factory)(*args), None
                else:
                    answer = getattr(made, name)(*args)
            except Exception:
                pipe.send((True, traceback.format_exc()))
            else:
                pipe.send((False, answer))


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
