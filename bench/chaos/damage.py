"""Damage files as disks, crashes and people do: a file that is missing, cut, of zeros, of other content, or has one bit flipped."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

Rng = np.random.Generator


def missing(path: Path, rng: Rng) -> None:
    """Delete the file."""
    path.unlink()


def cut(path: Path, rng: Rng) -> None:
    """Keep only the beginning."""
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.integers(len(content)))])


def zeros(path: Path, rng: Rng) -> None:
    """Replace every byte by 0, as a file system does after lost power."""
    path.write_bytes(bytes(path.stat().st_size))


def foreign(path: Path, rng: Rng) -> None:
    """Replace the content by another file's."""
    path.write_bytes(b'{"foreign": true}\n')


def flipped(path: Path, rng: Rng) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


WAYS: dict[str, Callable[[Path, Rng], None]] = {"missing": missing, "cut": cut, "zeros": zeros, "foreign": foreign, "bit flipped": flipped}


def files(checkpoint: Path) -> list[Path]:
    """Return the files of a checkpoint that are not empty, sorted."""
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.stat().st_size)


def damage_checkpoint(checkpoint: Path, number: int, rng: Rng) -> tuple[Path, str]:
    """Damage one file of a checkpoint; return it and the way. Successive numbers go through all files and ways."""
    found, ways = files(checkpoint), list(WAYS)
    path = found[number % len(found)]
    way = ways[(number + number // len(found)) % len(ways)]
    WAYS[way](path, rng)
    return path, way


def tear_tail(metrics: Path, rng: Rng) -> None:
    """Leave half a line at the end of metrics.jsonl, as a crash in a write does."""
    last = metrics.read_bytes().splitlines(keepends=True)[-1]
    with metrics.open("ab") as file:
        file.write(last[: int(rng.integers(1, len(last) - 1))])
