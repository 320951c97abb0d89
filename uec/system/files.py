"""Atomic writes: a file is either complete or absent."""

import os
from pathlib import Path


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Write a temporary file in the same folder, then rename it; a crash leaves either the old file or the new one.

    Raises OSError if the folder is missing, read-only or full; the temporary file is then removed.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that a rename in it survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
