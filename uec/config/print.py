"""A resolved config as YAML that loads again, with each value's origin as a comment."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from uec.config.file import Dumper, Resolved

DEFAULT = "default"
WIDEST = 60  # a longer value does not push the other comments aside


@dataclass(frozen=True, slots=True)
class Line:
    """A line of YAML, and the origin of its value; the head of a section has none."""

    key: str  # dotted
    text: str
    origin: str | None


def lines(resolved: Resolved) -> Iterator[Line]:
    """All settings in the order of `uec/config/schema.py`."""
    yield from _section(dataclasses.asdict(resolved.config), "", resolved.origins)


def commented(all_lines: list[Line]) -> Iterator[tuple[str, str]]:
    """Each line's text, padded so that the comments stand below each other, and its comment."""
    column = max((len(line.text) for line in all_lines if line.origin and len(line.text) <= WIDEST), default=0)
    for line in all_lines:
        if line.origin:
            shown = "".join(c if c.isprintable() else "?" for c in line.origin)  # a file's name may hold a line end
            yield line.text.ljust(column), f"  # {shown}"
        else:
            yield line.text, ""


def flow(value: Any) -> str:
    """A value as YAML in one line."""
    inside = yaml.dump([value], Dumper=Dumper, default_flow_style=True, allow_unicode=True, width=math.inf)
    return inside.strip()[1:-1]


def _section(values: dict[str, Any], prefix: str, origins: dict[str, str]) -> Iterator[Line]:
    indent = "  " * prefix.count(".")
    for name, value in values.items():
        key, start = f"{prefix}{name}", f"{indent}{flow(name)}:"
        if isinstance(value, dict) and value:
            yield Line(key, start, None)
            yield from _section(value, f"{key}.", origins)
        else:
            yield Line(key, f"{start} {flow(value)}", origins.get(key, DEFAULT))


def value_of(resolved: Resolved, key: str) -> tuple[str, str]:
    """A field's value in one line, and its origin; the entries of a mapping may have several. One that it has not: the mapping's."""
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
