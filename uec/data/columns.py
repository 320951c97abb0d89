"""Find a row's column, also inside another one: `reward_model.ground_truth` is the field ground_truth of the column reward_model."""

import json
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]

MISSING: Any = object()
"""What `lookup` returns for a column that a row lacks."""


def lookup(row: Row, key: str) -> Any:
    """Return a column's value, or MISSING. A column whose name has dots wins over a path of the same text.

    A path leads into objects, objects written as JSON text, and lists (by the position, from 0).
    """
    if key in row:
        return row[key]
    for name, rest in _divisions(key):
        if name in row:
            value = _descend(row[name], rest)
            if value is not MISSING:
                return value
    return MISSING


def top_column(row: Row, key: str) -> str:
    """Return the column of the row in which the path begins."""
    if key in row:
        return key
    return next((name for name, rest in _divisions(key) if name in row and _descend(row[name], rest) is not MISSING), key)


def _divisions(key: str) -> Iterator[tuple[str, str]]:
    """Yield the first part and the rest of a path, at each of its dots."""
    position = key.find(".")
    while position >= 0:
        yield key[:position], key[position + 1 :]
        position = key.find(".", position + 1)


def _descend(value: Any, path: str) -> Any:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return MISSING
    if isinstance(value, dict):
        return lookup(value, path)
    if isinstance(value, list):
        first, _, rest = path.partition(".")
        if first.isascii() and first.isdigit() and len(first) < 10 and int(first) < len(value):
            return _descend(value[int(first)], rest) if rest else value[int(first)]
    return MISSING
