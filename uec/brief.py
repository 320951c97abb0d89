"""Keep error messages short, whatever the data hold, and name characters that are none."""

import re
from typing import Any

from uec.errors import BadInput

LONGEST_MESSAGE = 1000
TAIL = 380
"""Characters of a message's end that stay, because the advice stands there."""

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
INVISIBLE = str.maketrans("", "", "\u200b\u200c\u200d\u2060\ufeff\x00")


def brief(value: Any, most: int = 60) -> str:
    """Return the value as Python writes it, cut to `most` characters. A large value is not written in full first."""
    text = _repr(value, most)
    return text if len(text) <= most else text[: most - 3] + "..."


def describe(value: Any) -> str:
    """Return type and value."""
    return f"{type(value).__name__} {brief(value)}"


def names(columns: Any, most: int = 500) -> str:
    """Return the names of columns, as many as fit."""
    text = ", ".join(brief(name) for name in list(columns)[:50]) or "none"
    return text if len(text) <= most else text[: most - 3] + "..."


def clipped(message: str) -> str:
    """Return a message of at most LONGEST_MESSAGE characters, cut in the middle."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[: LONGEST_MESSAGE - TAIL - 5]} ... {message[-TAIL:]}"


def is_blank(text: str) -> bool:
    """Return whether the text shows nothing: white space and characters without width."""
    return not text.translate(INVISIBLE).strip()


def check_characters(text: str, what: str, where: str) -> None:
    """Raise BadInput for half a surrogate pair, which no tokenizer reads and no file takes."""
    if text.isascii() or (found := LONE_SURROGATE.search(text)) is None:
        return
    raise BadInput(
        f"{where}: {what} holds half of an emoji or of another rare character, \\u{ord(found[0]):04x} without its other half, as "
        f"character {found.start() + 1}; write the whole character, or remove the row"
    )


def _repr(value: Any, most: int) -> str:
    if isinstance(value, str | bytes):
        return repr(value[:most])[:-1] if len(value) > most else repr(value)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * most:
        return f"a number of {value.bit_length()} bits"
    try:
        return repr(value)
    except (RecursionError, ValueError):  # deep nesting; Python writes no number of more than 4,300 digits
        return f"a large {type(value).__name__}"
