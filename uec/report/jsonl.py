"""Lines of JSON from a run folder, with the file and the line named where one is damaged."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uec.errors import BadInput


def read_lines(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Where each line begins, its length in bytes, and its object. A last line that is still being written is left out.

    Raises BadInput for any other line that is no JSON object, or lacks a `required` key.
    """
    with path.open("rb") as file:
        begin, number = 0, 0
        for number, line in enumerate(file, 1):
            if row := decode(line, path, number, required):
                yield begin, len(line), row
            begin += len(line)


def decode(line: bytes, path: Path, number: int, required: tuple[str, ...]) -> dict[str, Any] | None:
    """One line; None for one without its end. Raises BadInput as `read_lines` does."""
    try:
        row = json.loads(line)
    except ValueError as error:
        if not line.endswith(b"\n"):
            return None
        raise damaged(path, number, f"not JSON ({error})") from error
    if not isinstance(row, dict):
        raise damaged(path, number, "expected an object")
    missing = [key for key in required if key not in row]
    if missing:
        raise damaged(path, number, f"{missing[0]} is missing")
    return row


def damaged(path: Path, number: int, what: str) -> BadInput:
    """The error of a line."""
    return BadInput(f"{path}, line {number}: {what}; remove the line or the file")
