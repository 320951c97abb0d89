"""The other side of a ratio: plain code without Ray, in a separate process that is driven through a pipe.

`Bare` starts the process `python -m bench.bare FD`. It may run in another Python environment than the project's, so this file imports
no installed package.
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

    The constructor runs while the caller continues; the first call waits for it. `log` receives the output; `python` is the interpreter.
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
                process_group=0,  # ends vLLM's child processes, too; a new session would change the CPU shares
            )
        theirs.close()
        self._pipe.send(self._args)
        self._made = False
        return self

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ready(self) -> None:
        """Wait until the object is constructed."""
        if not self._made:
            self._receive()
            self._made = True

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the object. Raises RunFailed with the traceback of the other process."""
        self.ready()
        self._pipe.send((method, args))
        return self._receive()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pipe.close()  # the process ends when it sees this
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
    """Construct the object that the first message names, then call its methods until the other end closes the pipe."""
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
