"""The processes of one run, found by an environment variable that they inherit; and what of it remains after its end.

Several clusters may run on this machine. A process belongs to the run if it has the mark, or descends from one that has it.
"""

import os
import re
import signal
import time
from pathlib import Path

import psutil

MARK = "UEC_CHAOS"
"""Environment variable with the campaign's id, in every process of its runs."""
SHARED_MEMORY = "/dev/shm/"
RAY_ENDS_S = 45.0
"""Time for a run's processes and files to go after its driver has ended."""

KINDS = {
    "driver": r"^\S*python\S* -m uec\.commands\.cli",
    "engine": r"^ray::RolloutActor",
    "engine process": r"^VLLM::EngineCore",
    "grader": r"^ray::RewardActor",
    "grading process": r"uec\.rewards\.worker",
    "image worker": r"^ray::ImageActor",
    "difficulty": r"^ray::DifficultyActor",
    "replay": r"^ray::ReplayActor",
    "learner": r"^ray::LearnerActor",
    "raylet": r"/raylet/raylet\b",
    "gcs": r"/gcs_server\b",
}
"""Kinds of processes, by a pattern of their command line."""


class Victims:
    """The processes of a run that were seen alive, and the files in shared memory that they used."""

    def __init__(self, mark: str) -> None:
        self.mark = f"{MARK}={mark}".encode()
        self.seen: set[psutil.Process] = set()  # psutil compares the start time, too, so that a reused number is another process
        self.shared: set[Path] = set()

    def look(self) -> set[psutil.Process]:
        """Return the living processes of the run, and remember them and their files in shared memory."""
        everyone = {process.pid: process for process in psutil.process_iter()}
        marked = {pid for pid in everyone if self.mark in _read(pid, "environ").split(b"\0")}
        marked |= {process.pid for process in self.seen if everyone.get(process.pid) == process}
        parents = {pid: _parent(process) for pid, process in everyone.items()}
        found = {everyone[pid] for pid in everyone if _descends(pid, marked, parents) and _alive(everyone[pid])}
        self.seen |= found
        for process in found:
            self.shared |= _shared_files(process.pid)
        return found

    def of(self, kind: str) -> list[psutil.Process]:
        """Return the run's processes of a kind, by their number."""
        pattern = re.compile(KINDS[kind])
        return sorted((one for one in self.look() if pattern.search(_command(one.pid))), key=lambda one: one.pid)

    def end(self) -> None:
        """Kill what is left of the run."""
        for process in self.look():
            _signal(process, signal.SIGKILL)

    def remains(self, temporary: Path, wait_s: float = RAY_ENDS_S) -> list[str]:
        """Wait for the end of the run's processes; return those that live on, and its files in shared memory and `temporary`."""
        deadline = time.monotonic() + wait_s
        while (found := self._remains(temporary)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def _remains(self, temporary: Path) -> list[str]:
        processes = [f"process {one.pid} ({_command(one.pid)[:60].strip()})" for one in self.look()]
        files = sorted(str(path) for path in self.shared if path.exists())
        return [*processes, *files, *sorted(str(path) for path in temporary.iterdir())]


def kill(process: psutil.Process) -> None:
    """End a process at once."""
    _signal(process, signal.SIGKILL)


def stop(process: psutil.Process) -> None:
    """Stop a process, so that it hangs and does not end."""
    _signal(process, signal.SIGSTOP)


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)  # psutil checks that the number still belongs to this process
    except psutil.NoSuchProcess:
        return  # it has ended by itself


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended, or belongs to another user
        return b""


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _descends(pid: int, marked: set[int], parents: dict[int, int]) -> bool:
    met: set[int] = set()
    while pid not in marked:
        met.add(pid)
        pid = parents.get(pid, 0)
        if pid <= 1 or pid in met:
            return False
    return pid != os.getpid()


def _shared_files(pid: int) -> set[Path]:
    """Return the files in shared memory that a process has open or mapped; a folder of weights counts as one."""
    names = {line.split(maxsplit=5)[5] for line in _read(pid, "maps").decode(errors="replace").splitlines() if SHARED_MEMORY in line}
    try:
        names |= {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        pass  # it has ended: its maps are all that is known
    found = {Path(name) for name in names if name.startswith(SHARED_MEMORY) and not name.endswith(" (deleted)")}
    return {path if path.parent == Path(SHARED_MEMORY) else path.parent for path in found}
