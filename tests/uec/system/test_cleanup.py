"""A killed process leaves none of its run's processes and files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uec.system.cleanup import RUN, cleaned, processes, remove_remains

PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path
from uec.system.cleanup import RUN, TEMPORARY, cleaned
with cleaned(sys.argv[1] + "/weights-{run}-*"):
    Path(sys.argv[1], f"weights-{os.environ[RUN]}-x").mkdir()
    Path(os.environ[TEMPORARY], "some").touch()
    subprocess.Popen(["sleep", "300"])
    print(os.environ[RUN], os.environ[TEMPORARY], flush=True)
    time.sleep(float(sys.argv[2]))
"""


def run(folder: Path, seconds: float) -> tuple[subprocess.Popen[str], str, Path]:
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert program.stdout is not None
    name, temporary = program.stdout.readline().split()
    return program, name, Path(temporary)


def test_a_killed_driver_leaves_no_process_and_no_folder_and_those_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "weights-another-x").mkdir()
    program, name, temporary = run(tmp_path, 300)
    assert len(processes(name)) == 1 and temporary.is_dir()
    program.send_signal(signal.SIGKILL)
    program.wait()
    deadline = time.monotonic() + 25
    while (processes(name) or temporary.exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes(name) == [] and not temporary.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["weights-another-x"]


def test_the_end_of_the_block_waits_until_all_is_gone(tmp_path: Path) -> None:
    program, name, temporary = run(tmp_path, 0)
    assert program.wait(40) == 0
    assert processes(name) == [] and not temporary.exists() and list(tmp_path.iterdir()) == []


def test_outside_the_block_no_process_belongs_to_the_run(tmp_path: Path) -> None:
    with cleaned():
        name = os.environ[RUN]
    assert RUN not in os.environ
    child = subprocess.Popen(["sleep", "5"])
    assert processes(name) == []
    child.kill()
    child.wait()


def test_processes_that_end_by_themselves_are_not_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "0.5"], env={**os.environ, RUN: "a-test"})
    time.sleep(0.1)
    reaped = []
    monkeypatch.setattr("uec.system.cleanup.time.sleep", lambda s: reaped.append(child.poll()) or os.sched_yield())
    remove_remains("a-test", str(tmp_path / "none"), [])
    assert child.wait() == 0
