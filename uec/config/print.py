"""Print a resolved config as YAML, with the origin of each value as a comment. The output is a valid config file."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from uec.config.file import Dumper, Resolved

DEFAULT = "default"
MAX_COLUMN = 60  # longer lines do not move the comments of the other lines


@dataclass(frozen=True, slots=True)
class Line:
    """A line of YAML with the origin of its value; a section's name has no origin."""

    key: str  # dotted
    text: str
    origin: str | None


def lines(resolved: Resolved) -> Iterator[Line]:
    """Yield all settings in the order of `uec/config/schema.py`."""
    yield from _section(dataclasses.asdict(resolved.config), "", resolved.origins)


def commented(all_lines: list[Line]) -> Iterator[tuple[str, str]]:
    """Yield the text and the comment of each line; the texts are padded so that the comments are aligned."""
    column = max((len(line.text) for line in all_lines if line.origin and len(line.text) <= MAX_COLUMN), default=0)
    for line in all_lines:
        if line.origin:
            origin = "".join(c if c.isprintable() else "?" for c in line.origin)  # a file name may contain a line break
            yield line.text.ljust(column), f"  # {origin}"
        else:
            yield line.text, ""


def flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    in_list = yaml.dump([value], Dumper=Dumper, default_flow_style=True, allow_unicode=True, width=math.inf)
    return in_list.strip()[1:-1]


def _section(values: dict[str, Any], prefix: str, origins: dict[str, str]) -> Iterator[Line]:
    """Yield the lines of a section."""
    indent = "  " * prefix.count(".")
    for name, value in values.items():
        key, start = f"{prefix}{name}", f"{indent}{flow(name)}:"
        if isinstance(value, dict) and value:
            yield Line(key, start, None)
            yield from _section(value, f"{key}.", origins)
        else:
            yield Line(key, f"{start} {flow(value)}", origins.get(key, DEFAULT))


def value_of(resolved: Resolved, key: str) -> tuple[str, str]:
    """Return a field's value in one line, and its origin; a mapping may have several origins.

    For an entry that the mapping does not have, return the value of the mapping.
    """
    value: Any = resolved.config
    for name in key.split("."):
        if isinstance(value, dict):
            if name not in value:
                return value_of(resolved, key.rpartition(".")[0])
            value = value[name]
        else:
            value = getattr(value, name)
    origins = [line.origin for line in lines(resolved) if line.origin and f"{line.key}.".startswith(f"{key}.")]
    return flow(value), ", ".join(dict.fromkeys(origins))
