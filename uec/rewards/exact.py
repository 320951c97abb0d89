"""Grader `exact`: the final answer of a response equals the reference answer."""

import re
from decimal import Decimal
from typing import Any

# Digits with or without thousand commas. A minus counts unless it stands right behind what it would be subtracted from.
# `rest` is filled where the number is only the beginning of a product, a fraction or a power.
NUMBER = re.compile(
    r"(?<![0-9.])(?P<value>(?:(?<![\w)])[-+])?\$?(?:(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?|\.[0-9]++))"
    r"(?P<rest>(?:\s*[*/^]\s*[-+]?[0-9.,]+)*)"
)
MARKER = re.compile(r"\banswer\s*(?:\bis\b\s*:?|:)", re.IGNORECASE)


def score(response: str, answer: str, **row: Any) -> float:
    """1 iff the final answer of the response equals `answer`, else 0.

    The final answer is what follows the last `####`; or else the last "answer is", "answer is:" or "answer:"; in both
    cases the first line there that is not blank. Where there is no such marker it is the whole response.

    A reference that is a number (`1,234`, `$18`, `-3.50`) is compared by value, with the first number behind the last
    `=` of the marked text, so that `18 dollars` and `6 * 3 = 18` count; without a marker, with the response's last
    number. `1/5` is no number: the reference 1 does not equal it. Any other reference is compared as text, after white
    space is collapsed and case, surrounding `$`, `*`, quotes and a final full stop are dropped. A reference with a
    `####` of its own (raw GSM8K) is what follows it.
    """
    reference = answer.rpartition("####")[2]
    text, marked = _final_answer(response)
    wanted = _only_number(reference)
    if wanted is None:
        return float(_plain(text) == _plain(reference) != "")
    numbers = list(NUMBER.finditer((text.rpartition("=")[2] if marked else text).replace("\u2212", "-")))
    if not numbers:
        return 0.0
    found = numbers[0 if marked else -1]
    return float(not found["rest"] and _value(found) == wanted)


def extract(response: str, answer: str) -> str | None:
    """The final answer that `score` would compare with `answer`, so that equal ones are equal texts; None where there is none."""
    text, marked = _final_answer(response)
    if _only_number(answer.rpartition("####")[2]) is None:
        return _plain(text) or None
    numbers = list(NUMBER.finditer((text.rpartition("=")[2] if marked else text).replace("\u2212", "-")))
    if not numbers:
        return None
    found = numbers[0 if marked else -1]
    return f"{_value(found).normalize():f}{''.join(found['rest'].split())}"


def _final_answer(response: str) -> tuple[str, bool]:
    """The text that holds the final answer, and whether a marker points at it."""
    tail = response.rpartition("####")
    if not tail[1]:
        # Markdown emphasis may stand inside the marker: `**Answer**: 18`.
        text = response.replace("**", "")
        ends = [match.end() for match in MARKER.finditer(text)]
        if not ends:
            return response, False
        tail = ("", "", text[ends[-1] :])
    return next((line for line in tail[2].splitlines() if line.strip()), ""), True


def _plain(text: str) -> str:
    """Text for comparison."""
    return " ".join(text.split()).strip("$*\"'` ").removesuffix(".").strip("$*\"'` ").casefold()


def _only_number(text: str) -> Decimal | None:
    """The value of a text that is a number and nothing else."""
    match = NUMBER.fullmatch(_plain(text).replace("\u2212", "-"))
    return _value(match) if match and not match["rest"] else None


def _value(number: re.Match[str]) -> Decimal:
    return Decimal(number["value"].replace(",", "").replace("$", ""))
