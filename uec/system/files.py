"""Files that are either whole or not there."""

import os
from pathlib import Path


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Write a file under a passing name in its own folder, then move it to its place; a crash leaves the old file or the new one.

    Raises OSError if the folder is missing, read-only or full; nothing is left behind then.
    """
    path = Path(path)
    passing = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with open(passing, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(passing, path)
    finally:
        passing.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
