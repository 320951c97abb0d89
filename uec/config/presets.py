"""The algorithm presets: their folders, and the comment of each file. Tab completion uses this module, so it imports nothing heavy."""

from pathlib import Path

import uec

PROJECT = Path(uec.ROOT)


def folders(beside: Path | None = None) -> list[Path]:
    """Return the folders of presets in the order of look-up; `beside`: the folder of the config file, which comes first."""
    return [*([beside / "algorithm"] if beside else []), Path("configs/algorithm"), PROJECT / "configs/algorithm"]


def presets(beside: Path | None = None) -> dict[str, str]:
    """Return the names of all presets, sorted, each with the first comment line of its file."""
    files = {file.stem: file for folder in reversed(folders(beside)) for file in folder.glob("*.yaml")}
    return {name: _comment(files[name]) for name in sorted(files)}


def _comment(file: Path) -> str:
    """Return the comment in the first line of a file, or ""."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        first = next(lines, "")
    return first.lstrip("#").strip() if first.startswith("#") else ""
