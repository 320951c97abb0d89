"""The names and types of all settings, read off the classes of `uec/config/schema.py`: what keys there are, and what they take."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher, get_close_matches
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from uec.config.schema import Config

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_PLURALS = {int: "whole numbers, e.g. [1, 8]", float: "numbers, e.g. [0.9, 0.95]", str: "texts, e.g. [a, b]"}


@functools.cache
def fields() -> dict[str, Any]:
    """Dotted name of every section and field, with its type."""

    def below(cls: type, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, hint in get_type_hints(cls).items():
            yield prefix + name, hint
            if isinstance(hint, type) and dataclasses.is_dataclass(hint):
                yield from below(hint, f"{prefix}{name}.")

    return dict(below(Config, ""))


def is_section(key: str) -> bool:
    return dataclasses.is_dataclass(fields().get(key))


def type_of(key: str) -> Any:
    """The type of a field, or of an entry of a field that is a mapping; None if there is no such key."""
    parent, _, last = key.rpartition(".")
    if last and get_origin(fields().get(parent)) is dict:
        return get_args(fields()[parent])[1]
    return fields().get(key)


def inner(hint: Any) -> Any:
    """`T | None` as T, any other type as itself."""
    if isinstance(hint, UnionType):
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def in_words(hint: Any) -> str:
    """What a field of this type takes."""
    if inner(hint) is not hint:
        return f"{in_words(inner(hint))} or null"
    if get_origin(hint) is list:
        return f"a list of {_PLURALS[get_args(hint)[0]]}"
    if get_origin(hint) is dict:
        return "a mapping of names to numbers, e.g. {accuracy: 1.0}"
    return _WORDS.get(hint, "text, or a list of texts")


def range_in_words(limits: Mapping[str, Any]) -> str:
    """The bounds in a field's metadata, such as "above 0 and at most 1"; "" if it has none."""
    return " and ".join(f"{words} {limits[name]:.15g}" for name, words in BOUNDS.items() if limits.get(name) is not None)


def did_you_mean(key: str) -> str:
    """An ending for "unknown key": the nearest names, or what there is."""
    names = list(fields())
    section, _, leaf = key.rpartition(".")
    same = [name for name in names if name.endswith(f".{leaf}")]
    if same and (not section or len(same) == 1):  # without its section, or in another one
        return f"; did you mean {' or '.join(same)}?"

    if section in names and not is_section(section):
        return f"; {section} is {in_words(type_of(section))}"

    def likeness(name: str) -> float:
        """Of the last part, above all: from 0 to 1.5."""
        place, _, last = name.rpartition(".")
        abbreviated = leaf != "" and last.startswith(leaf)
        return max(SequenceMatcher(None, leaf, last).ratio(), 0.9 * abbreviated) + 0.5 * SequenceMatcher(None, section, place).ratio()

    best = max(names, key=likeness)
    if likeness(best) > 1.1:
        return f"; did you mean {best}?"
    if not section:
        leaves = {name.rpartition(".")[2] for name in names}
        near = get_close_matches(leaf, leaves, 1, 0.75)
        return did_you_mean(near[0]) if near else f"; there is {', '.join(name for name in names if '.' not in name)}"
    if is_section(section):
        inside = [name.rpartition(".")[2] for name in names if name.startswith(f"{section}.")]
        return f"; {section} has {', '.join(inside)}"
    return f"; there is {', '.join(name for name in names if '.' not in name)}"
