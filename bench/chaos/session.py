"""One start of a training run as a user would start it: `uec train` in a process, watched through its run folder."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from bench.chaos.victims import MARK, Victims
from uec.config.presets import PROJECT
from uec.errors import BadInput
from uec.tracking.metrics_file import read_metrics

POLL_S = 0.4


class BrokenPromise(Exception):
    """The run did not do what is promised; the message says what it did."""


class Scratch:
    """A folder for the runs of a campaign, their temporary files and their mark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # short: Ray's sockets lie in it, and their paths have at most 107 characters
        self.mark = folder.name
        self.temporary = folder / "tmp"
        self.temporary.mkdir()

    def environment(self) -> dict[str, str]:
        """Return the environment of a run: marked, with its own temporary folders."""
        return {
            **os.environ, MARK: self.mark, "TMPDIR": str(self.temporary), "RAY_TMPDIR": str(self.folder), "OMP_NUM_THREADS": "1",
        }  # fmt: skip


class Session:
    """A running `uec train`."""

    def __init__(self, scratch: Scratch, config: Path, *overrides: str, sandbox: tuple[str, ...] = ()) -> None:
        """`sandbox`: words before the command. `overrides` name run.dir and run.name, or resume."""
        self.scratch = scratch
        self.victims = Victims(scratch.mark)
        self.output = scratch.folder / f"output-{len(list(scratch.folder.glob('output-*')))}"
        words = [*sandbox, sys.executable, "-m", "uec.commands.cli", "train", str(config), "cluster.address=local", *overrides]
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                words, cwd=PROJECT, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=scratch.environment(),
                start_new_session=True,
            )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def said(self) -> str:
        """Return what the run printed."""
        return self.output.read_text(errors="replace")

    def one_of(self, kind: str, choice: float) -> psutil.Process:
        """Return a process of a kind; `choice` in [0, 1) chooses among several. Waits until there is one."""
        self.wait(lambda: bool(self.victims.of(kind)), 60, f"there is no {kind}")
        found = self.victims.of(kind)
        return found[int(choice * len(found))]

    def wait(self, true: Callable[[], bool], seconds: float, otherwise: str) -> float:
        """Wait until something is true; return the seconds. Raises BrokenPromise if the run ends or the time is over before."""
        begin = time.monotonic()
        while not true():
            if not self.alive:
                raise BrokenPromise(f"the run ended with status {self.process.returncode}: {last_line(self.said)}")
            if time.monotonic() - begin > seconds:
                raise BrokenPromise(f"{otherwise} after {seconds:.0f} s")
            self.victims.look()
            time.sleep(POLL_S)
        return time.monotonic() - begin

    def end(self, seconds: float) -> int:
        """Wait for the end, and return the exit status. Raises BrokenPromise if it does not come."""
        begin = time.monotonic()
        while self.alive:
            if time.monotonic() - begin > seconds:
                raise BrokenPromise(f"the run did not end within {seconds:.0f} s")
            self.victims.look()
            time.sleep(POLL_S)
        return int(self.process.returncode)

    def stop(self) -> None:
        """Kill the run with all its processes, whatever its state."""
        self.victims.end()
        if self.alive:
            self.process.kill()
        self.process.wait()
        self.victims.end()

    def clear(self) -> None:
        """Kill what is left, and delete its files, so that the next fault is judged alone."""
        self.stop()
        for path in [*self.victims.shared, *self.scratch.temporary.iterdir()]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def last_step(run: Path) -> int:
    """Return the last step in metrics.jsonl; -1 if there is none."""
    try:
        rows = read_metrics(run / "metrics.jsonl")
    except (OSError, BadInput):  # not there yet, or half a line is being written
        return -1
    return int(rows[-1]["step"]) if rows else -1


def events(run: Path, since: float = 0.0) -> list[dict[str, Any]]:
    """Return the events of a run from a time on."""
    try:
        lines = (run / "events.jsonl").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # the last line is being written
            break
    return [event for event in found if event["time"] >= since]


def last_line(text: str) -> str:
    """Return the last line that is not empty, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "(it said nothing)"
