"""Fill a file system while a run uses it: a small tmpfs in a mount namespace, which only the run sees and which ends with it."""

import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

import numpy as np

from bench.chaos.faults import DISK, LONGEST_PAUSE_S, Fault
from bench.chaos.injection import check_said, check_status, survives
from bench.chaos.session import Session, last_step

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
RUN_FOLDER_MIB, SHARED_MEMORY_MIB = 512, 1024
FULL = ("No space left", "/dev/shm")
"""What the last words of a run name, one of them, when a disk is full."""


@cache
def can_mount() -> bool:
    """Return whether this user may mount a tmpfs in a namespace of its own."""
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


def sandbox(fault: Fault, run: Path, kept: Path) -> tuple[str, ...]:
    """Return the words before a command that give it a small file system for the fault, and save the run folder in `kept` at its end."""
    target, size = (run, RUN_FOLDER_MIB) if fault is DISK else (Path("/dev/shm"), SHARED_MEMORY_MIB)
    script = (
        'run=$1 kept=$2 target=$3 size=$4; shift 4; cp -a "$run" "$kept.before" || exit 99; '
        'mount -t tmpfs -o "size=${size}m" tmpfs "$target" || exit 99; '
        '[ "$run" != "$target" ] || cp -a "$kept.before/." "$run"; rm -rf "$kept.before"; "$@"; status=$?; '
        'rm -f "$target/fill"; rm -rf "$kept"; cp -a "$run" "$kept"; exit $status'
    )
    return (*NAMESPACE, "sh", "-c", script, "sh", str(run), str(kept), str(target), str(size))


def until_full(session: Session, run: Path, fault: Fault, step: int, rng: np.random.Generator) -> float:
    """Fill the file system at a random moment after `step`; return the seconds until the run ended as promised, or until it goes on."""
    driver = session.one_of("driver", 0.0)
    root = Path(f"/proc/{driver.pid}/root")  # the file systems as the run sees them
    inside = root / str(run).lstrip("/")
    session.wait(lambda: last_step(inside) > step, 240, "no first step")
    time.sleep(rng.uniform(0, LONGEST_PAUSE_S))
    begin, before = time.monotonic(), last_step(inside)
    _fill((inside if fault is DISK else root / "dev/shm") / "fill")
    if fault is not DISK and survives(session, inside, before):
        driver.terminate()
        check_status(session, 143)
    else:
        check_status(session, 1)
        check_said(session, *FULL)
    return time.monotonic() - begin


def _fill(path: Path) -> None:
    """Write zeros until the file system is full."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:  # full, for pieces of this size
                continue
