"""Digests of a checkpoint's files: each writer digests what it wrote, files.json lists them all, and a resume checks them before it starts.

    step_000100/files.json    {"learner/state-00000.safetensors": {"size": 1234, "blake2b": "..."}, ...}
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FORMAT = 5
"""Of the whole checkpoint; driver.json names it."""

LIST = "files.json"
PART = ".digests-"


def write_digests(folder: Path, writer: str, paths: list[Path]) -> None:
    """Leave the digests of files that this process wrote in `folder`, for `list_files`."""
    entries = {path.name: _entry(path) for path in paths}
    (folder / f"{PART}{writer}.json").write_text(json.dumps(entries))


def list_files(checkpoint: Path) -> None:
    """Write files.json from what the writers left, and digest the files that none of them did. Raises OSError."""
    entries: dict[str, Any] = {}
    for part in sorted(checkpoint.rglob(f"{PART}*.json")):
        folder = part.parent.relative_to(checkpoint)
        entries.update({str(folder / name): entry for name, entry in json.loads(part.read_text()).items()})
        part.unlink()
    for path in checkpoint.rglob("*"):
        name = str(path.relative_to(checkpoint))
        if path.is_file() and name not in entries:
            entries[name] = _entry(path)
    (checkpoint / LIST).write_text(json.dumps(entries, indent=1, sort_keys=True))


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with the first damaged file of a checkpoint, with its name; None if all are as they were written.

    Reads every file. A checkpoint of another format, which has no list, is left to the reader of driver.json, which refuses it.
    """
    listing = checkpoint / LIST
    try:
        entries = json.loads(listing.read_text())
        expected = {name: (int(entry["size"]), str(entry["blake2b"])) for name, entry in entries.items()}
    except FileNotFoundError:
        return None if _is_of_another_format(checkpoint) else f"{listing} is missing"
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{listing} cannot be read ({type(error).__name__})"
    if "driver.json" not in expected:
        return f"{listing} does not list driver.json"
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda name: _compare(checkpoint / name, *expected[name]), sorted(expected))
        return next((problem for problem in found if problem), None)


def _compare(path: Path, size: int, digest: str) -> str | None:
    try:
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes instead of {size}"
        return None if _entry(path)["blake2b"] == digest else f"{path} has other content than was written (digest)"
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({error})"


def _entry(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return {"size": path.stat().st_size, "blake2b": digest}


def _is_of_another_format(checkpoint: Path) -> bool:
    try:
        content = json.loads((checkpoint / "driver.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") != FORMAT
