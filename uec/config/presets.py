"""The algorithm presets: where their files lie, and what each says of itself. Imports nothing heavy: tab completion asks, too."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def folders(beside: Path | None = None) -> list[Path]:
    """Where a name is looked up, first to last; `beside`: the folder of a config."""
    return [*([beside / "algorithm"] if beside else []), Path("configs/algorithm"), PROJECT / "configs/algorithm"]


def presets(beside: Path | None = None) -> dict[str, str]:
    """Every name with the comment that its file begins with, sorted."""
    files = {file.stem: file for folder in reversed(folders(beside)) for file in folder.glob("*.yaml")}
    return {name: _comment(files[name]) for name in sorted(files)}


def _comment(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as lines:
        first = next(lines, "")
    return first.lstrip("#").strip() if first.startswith("#") else ""
