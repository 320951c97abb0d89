"""CPU time and memory of a process with all its descendants."""

from pathlib import Path

import psutil


def tree(pid: int) -> list[psutil.Process]:
    """Return the process and its descendants; an empty list if it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time that they have used so far, to the system's tick (10 ms)."""
    total = 0.0
    for process in processes:
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:  # ended since it was listed
            continue
        total += used.user + used.system
    return total


def memory_bytes(pid: int, without: int | None = None) -> int:
    """Return the proportional set size of the tree without the branch `without`: a page that k processes share counts once."""
    left_out = set(tree(without)) if without is not None else set()
    return sum(_pss(process.pid) for process in tree(pid) if process not in left_out)


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # ended since it was listed
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


def heap_bytes() -> int:
    """Return the anonymous memory of this process, which excludes mapped pages of the object store."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))
