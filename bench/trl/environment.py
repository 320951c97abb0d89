"""The Python environment of TRL: created once in the user's cache, because TRL is no dependency of the project."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from uec.errors import RunFailed

REQUIREMENTS = Path(__file__).parent / "requirements.txt"


def folder() -> Path:
    """Return the environment's folder, which depends on the requirements."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "uec-rl" / f"bench-trl-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]}"


def ready() -> Path:
    """Return the environment's Python; create the environment if it is missing. Raises RunFailed with the end of pip's output."""
    place = folder()
    python, finished = place / "bin/python", place / ".finished"
    if finished.exists():
        return python
    packages = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    print(f"trl: installing {', '.join(packages)} into {place}: minutes, gigabytes, once", flush=True)
    begin = time.perf_counter()
    shutil.rmtree(place, ignore_errors=True)  # an unfinished installation
    place.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(place)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--requirement", str(REQUIREMENTS)])
    finished.touch()
    size = sum(file.lstat().st_size for file in place.rglob("*") if file.is_file()) / 1e9
    print(f"trl: done in {time.perf_counter() - begin:.0f} s, {size:.1f} GB; remove the folder to free the space", flush=True)
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RunFailed(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout[-2000:]}")
