"""Read metrics.jsonl of a run folder, and truncate it to a step."""

import json
from pathlib import Path

from uec.errors import BadInput

METRICS_FILE = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the lines of the file, without a last line that a crash truncated.

    Raises BadInput for any other line that is no JSON object with a step.
    """
    rows = []
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise BadInput(f"{path}, line {number}: not JSON ({error}); remove the line or the file") from error
        if not isinstance(row, dict) or "step" not in row:
            raise BadInput(f"{path}, line {number}: expected an object with a step; remove the line or the file")
        rows.append(row)
    return rows


def encode(row: dict[str, float]) -> bytes:
    """Return one line. Raises ValueError for NaN and infinity, which are not JSON."""
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def truncate(path: Path, step: int) -> list[dict[str, float]]:
    """Remove the lines after `step`, which a resumed run writes again, and return the remaining ones."""
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    new = path.with_suffix(".new")
    new.write_bytes(b"".join(encode(row) for row in rows))
    new.replace(path)
    return rows
