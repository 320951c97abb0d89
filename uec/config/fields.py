"""Names and types of all settings, from the classes of `uec/config/schema.py`."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher, get_close_matches
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from uec.config.schema import Config

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_PLURALS = {int: "whole numbers, e.g. [1, 8]", float: "numbers, e.g. [0.9, 0.95]", str: "texts, e.g. [a, b]"}


@functools.cache
def fields() -> dict[str, Any]:
    """Return the dotted name of every section and field, with its type."""

    def below(cls: type, prefix: str) -> Iterator[tuple[str, Any]]:
        texts = {field.name for field in dataclasses.fields(cls) if field.metadata.get("texts")}
        for name, hint in get_type_hints(cls).items():
            yield prefix + name, str | list[str] if name in texts else hint  # OmegaConf knows no such union: the class says Any
            if isinstance(hint, type) and dataclasses.is_dataclass(hint):
                yield from below(hint, f"{prefix}{name}.")

    return dict(below(Config, ""))


def is_section(key: str) -> bool:
    """Return whether the key is a section."""
    return dataclasses.is_dataclass(fields().get(key))


def type_of(key: str) -> Any:
    """Return the type of a field, or of an entry of a mapping field; None if there is no such key."""
    parent, _, last = key.rpartition(".")
    if last and get_origin(fields().get(parent)) is dict:
        return get_args(fields()[parent])[1]
    return fields().get(key)


def without_none(hint: Any) -> Any:
    """Return T for `T | None`, and any other type unchanged."""
    if isinstance(hint, UnionType):
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def takes_texts(hint: Any) -> bool:
    """Return whether the field takes a text or a list of texts (`locations` of the schema)."""
    return hint == str | list[str]


def texts(value: Any) -> list[str]:
    """Return the value of such a field as a list; [] for null."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def type_text(hint: Any) -> str:
    """Return in words which values a field of this type takes."""
    if takes_texts(hint):
        return "text, or a list of texts"
    if without_none(hint) is not hint:
        return f"{type_text(without_none(hint))} or null"
    if get_origin(hint) is list:
        return f"a list of {_PLURALS[get_args(hint)[0]]}"
    if get_origin(hint) is dict:
        numbers = get_args(hint)[1] is float
        return "a mapping of names to numbers, e.g. {accuracy: 1.0}" if numbers else "a mapping, e.g. {enable_thinking: false}"
    return _WORDS.get(hint, "text, or a list of texts")


def range_text(metadata: Mapping[str, Any]) -> str:
    """Return the bounds in a field's metadata in words, such as "above 0 and at most 1"; "" if there are none."""
    return " and ".join(f"{words} {metadata[name]:.15g}" for name, words in _BOUNDS.items() if metadata.get(name) is not None)


def did_you_mean(key: str) -> str:
    """Return the end of a message about an unknown key: the nearest names, or the names that exist."""
    names = list(fields())
    section, _, leaf = key.rpartition(".")
    same_leaf = [name for name in names if name.endswith(f".{leaf}")]
    if same_leaf and (not section or len(same_leaf) == 1):  # the section is missing or wrong
        return f"; did you mean {' or '.join(same_leaf)}?"
    if section in names and not is_section(section):
        return f"; {section} is {type_text(type_of(section))}"

    def likeness(name: str) -> float:
        """Return from 0 to 1.5 how similar the names are; the last part counts most."""
        parent, _, last = name.rpartition(".")
        abbreviated = leaf != "" and last.startswith(leaf)
        return max(SequenceMatcher(None, leaf, last).ratio(), 0.9 * abbreviated) + 0.5 * SequenceMatcher(None, section, parent).ratio()

    best = max(names, key=likeness)
    if likeness(best) > 1.1:
        return f"; did you mean {best}?"
    if not section:
        leaves = {name.rpartition(".")[2] for name in names}
        nearest = get_close_matches(leaf, leaves, 1, 0.75)
        return did_you_mean(nearest[0]) if nearest else f"; there is {', '.join(name for name in names if '.' not in name)}"
    if is_section(section):
        fields_in_section = [name.rpartition(".")[2] for name in names if name.startswith(f"{section}.")]
        return f"; {section} has {', '.join(fields_in_section)}"
    return f"; there is {', '.join(name for name in names if '.' not in name)}"
