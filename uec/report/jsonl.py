"""Read JSON lines of a run folder; errors name the file and the line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uec.errors import BadInput


def read_lines(path: Path, required: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield each line's object. An incomplete last line, which is being written, is left out.

    Raises BadInput for any other line that is no JSON object or lacks a `required` key.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return
                raise damaged(path, number, f"not JSON ({error})") from error
            if not isinstance(row, dict):
                raise damaged(path, number, "expected an object")
            missing = [key for key in required if key not in row]
            if missing:
                raise damaged(path, number, f"{missing[0]} is missing")
            yield row


def damaged(path: Path, number: int, problem: str) -> BadInput:
    """Return the error for a damaged line."""
    return BadInput(f"{path}, line {number}: {problem}; remove the line or the file")
