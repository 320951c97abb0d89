"""Check each value of a config alone: its range, its choices, and the length of lists and texts."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from uec.brief import brief
from uec.config.fields import range_text
from uec.paths import LONGEST_PATH, LONGEST_PATH_PART, longest_part

MOST_ITEMS = 1000
"""Items of a list."""
LONGEST_TEXT = 100_000
"""Characters of a text."""


def out_of_range(section: Any, prefix: str) -> Iterator[str]:
    """Yield the problems of all values of a section."""
    for spec in fields(section):
        key, value = prefix + spec.name, getattr(section, spec.name)
        if is_dataclass(value):
            yield from out_of_range(value, f"{key}.")
        elif isinstance(value, list) and len(value) > MOST_ITEMS:
            yield f"{key} holds {len(value)} items; it takes at most {MOST_ITEMS}"
        elif isinstance(value, list):
            for i, item in enumerate(value):
                yield from _wrong(f"{key}[{i}]", item, spec.metadata)
        elif isinstance(value, dict):
            for name, item in value.items():
                yield from _wrong(f"{key}.{name}", item, spec.metadata)
        elif value is not None:
            yield from _wrong(key, value, spec.metadata)


def _wrong(key: str, value: Any, metadata: Any) -> Iterator[str]:
    """Yield the problem of one value, if there is one."""
    if isinstance(value, str):
        yield from _unusable_text(key, value, metadata)
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{key}={value} is not a finite number"
        return
    choices = metadata.get("choices")
    if choices and value not in choices:
        yield f"{key}={brief(value, 100)} is none of {', '.join(choices)}"
    holds = {"ge": lambda b: value >= b, "gt": lambda b: value > b, "le": lambda b: value <= b, "lt": lambda b: value < b}
    bounds = {name: metadata[name] for name in holds if metadata.get(name) is not None}
    shown, most = brief(value) if isinstance(value, int) else value, metadata.get("most")
    if any(not holds[name](bound) for name, bound in bounds.items()):
        yield f"{key}={shown} must be {range_text(metadata)}"
    elif most is not None and value > most:
        yield f"{key}={shown} must be at most {most:.15g}"


def _unusable_text(key: str, text: str, metadata: Any) -> Iterator[str]:
    """Yield the problem of a text that no file system and no process takes."""
    if "\0" in text:
        yield f"{key}={brief(text)} holds a zero byte; remove it"
    if metadata.get("path") and longest_part(text) > LONGEST_PATH_PART:
        yield f"{key}={brief(text)} has a part of more than {LONGEST_PATH_PART} bytes, which no file system takes; shorten it"
    elif len(text) > (longest := LONGEST_PATH if metadata.get("path") else LONGEST_TEXT):
        yield f"{key}={brief(text)} has {len(text)} characters; it takes at most {longest}"
