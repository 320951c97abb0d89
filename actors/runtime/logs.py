"""The processes of actors: a log file for each, so that the console stays readable, and a sign of life."""

import os
import sys
from pathlib import Path
from typing import Any

import ray

from actors.runtime.watchdog import GROUP, Process, this_process


def logged(actor: type, path: Path) -> type:
    """Return the actor class with stdout and stderr going to `path`, also those of C code and of child processes.

    It also has the method `sign_of_life`, in the concurrency group GROUP (actors/runtime/watchdog.py).
    """

    def __init__(self: Any, *args: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        os.close(descriptor)
        actor.__init__(self, *args)

    @ray.method(concurrency_group=GROUP)
    def sign_of_life(self: Any) -> Process:
        return this_process()

    return type(actor.__name__, (actor,), {"__init__": __init__, "sign_of_life": sign_of_life, "__module__": actor.__module__})


def tail(path: Path, lines: int = 3) -> str:
    """Return the last lines of an actor's log, for an error message."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 4096))
        text = file.read().decode(errors="replace")
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
