"""What a run leaves behind when its driver is killed: Ray's processes of a local cluster, weight files, temporary folders.

A small process that outlives the driver removes it. It waits at a pipe that only the driver holds open, so it sees every end of the
driver, SIGKILL included. It knows the run's processes by an environment variable that they inherit.

    python -m uec.system.cleanup RUN FOLDER PATTERN...
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

RUN = "UEC_RUN"
"""Environment variable with the run's id, in every process of the run."""
TEMPORARY = "UEC_RUN_TEMPORARY"
"""Environment variable with the folder for the temporary files of the run's actors."""
GRACE_S = 3.0
"""Time for the run's processes to end by themselves."""
LIMIT_S = 30.0
"""Longest time in which processes are looked for, and which the driver waits at its end."""


@contextmanager
def cleaned(*patterns: str) -> Iterator[None]:
    """End the run's processes, and remove its temporary folder and folders, at the end of the block or of this process.

    `patterns`: paths of other folders of the run, with {run} in place of its id and * for any text.
    """
    run = uuid.uuid4().hex[:12]
    temporary = tempfile.mkdtemp(prefix="uec-run-")
    command = [sys.executable, "-m", "uec.system.cleanup", run, temporary, *(pattern.format(run=run) for pattern in patterns)]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    watcher = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=environment
    )
    os.environ[RUN], os.environ[TEMPORARY] = run, temporary
    try:
        yield
    finally:
        del os.environ[RUN], os.environ[TEMPORARY]
        assert watcher.stdin is not None
        watcher.stdin.close()
        try:
            watcher.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            print(f"uec: processes of the run are still ending; process {watcher.pid} waits for them", file=sys.stderr)


def environment() -> dict[str, str]:
    """Return the environment variables by which an actor belongs to the run; empty outside `cleaned`."""
    return {name: os.environ[name] for name in (RUN, TEMPORARY) if name in os.environ}


def temporary_files() -> dict[str, str]:
    """Return the environment variable that puts an actor's temporary files into the run's folder; empty outside `cleaned`."""
    return {"TMPDIR": os.environ[TEMPORARY]} if TEMPORARY in os.environ else {}


def remove_remains(run: str, temporary: str, patterns: list[str]) -> None:
    """Wait until the run's processes have ended, kill those that do not, and remove the run's files."""
    begin = time.monotonic()
    while (found := processes(run)) and time.monotonic() - begin < LIMIT_S:
        if time.monotonic() - begin > GRACE_S:
            for pid in found:
                _kill(pid)
        time.sleep(0.1)
    for pattern in patterns:
        for path in glob(pattern):
            shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(temporary, ignore_errors=True)


def processes(run: str) -> list[int]:
    """Return this user's processes on this machine that belong to a run."""
    mark, found = f"{RUN}={run}".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:  # it has ended, or it is another user's
                continue
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has ended meanwhile


def main() -> None:
    """Wait for the end of the driver, which closes the pipe, then remove what it left."""
    run, temporary, *patterns = sys.argv[1:]
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    sys.stdin.buffer.read()
    remove_remains(run, temporary, patterns)


if __name__ == "__main__":
    main()
