r"""The built-in graders `boxed`, `exact` and `format`, the answers that they read, and the punishment of overlong responses."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from uec.rewards.reward_function import list_names

# An escaped character, brace or not, is consumed whole, so that `\{` opens nothing.
BOX_TOKEN = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def last_box(text: str) -> str | None:
    r"""The content of the last-opened \boxed{...} whose braces balance, or None. One pass, whatever the text."""
    opened: list[int] = []  # where the content of each open brace begins; -1: a brace that is no box
    best: tuple[int, int] | None = None
    for token in BOX_TOKEN.finditer(text):
        if token[0] == "{":
            opened.append(-1)
        elif token[0] == "}":
            start = opened.pop() if opened else -1
            if start >= 0 and (best is None or start > best[0]):
                best = (start, token.start())
        elif token[0].startswith("\\boxed") and token[0].endswith("{"):
            opened.append(token.end())
    return None if best is None else text[best[0] : best[1]]


# A longer answer is compared as text: the parser's time grows fast with nested braces, and no reference is that long.
LONGEST = 128
INTEGER = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)")


def boxed(response: str, answer: str, **row: Any) -> float:
    r"""1 iff the last balanced \boxed{...} holds `answer`, else 0; no box is a wrong answer, not an error.

    Equal are: equal texts; what math-verify finds equal (`1/2`, `0.5` and `\frac{1}{2}`; `1,234` and `1234`;
    `x=5` and `5`; `18\text{ dollars}` and `18`). The reference may be boxed or stand between `$`.

    math-verify's own time limits are off: they are signals, which a thread or a stuck C call never sees. The grading
    process is killed instead (uec/rewards/process.py).
    """
    found = last_box(response)
    if found is None:
        return 0.0
    reference = last_box(answer)
    wanted, found = _bare(answer if reference is None else reference), _bare(found)
    if wanted == found:
        return float(wanted != "")
    if len(found) > max(LONGEST, 2 * len(wanted)):
        return 0.0
    if INTEGER.fullmatch(wanted) and INTEGER.fullmatch(found):
        # What math-verify would say, in a microsecond instead of milliseconds: most answers are integers.
        return float(_integer(wanted) == _integer(found))
    from math_verify import verify  # imported here because it takes a second, which the other graders do not need

    return float(verify(_parse(wanted), _parse(found), timeout_seconds=None))


def extract_boxed(response: str, answer: str) -> str | None:
    r"""What stands in the last box, white space aside and integers without commas; None without a box. Not parsed: texts are compared."""
    found = last_box(response)
    if found is None:
        return None
    text = _bare(found)
    return str(_integer(text)) if INTEGER.fullmatch(text) else "".join(text.split()) or None


def _integer(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def _bare(text: str) -> str:
    return text.strip().strip("$").strip().removesuffix(".").strip()


def _parse(text: str) -> list[Any]:
    """The expression, or the text where it is none. Parsed as LaTeX only: math-verify's other reader calls eval."""
    from math_verify import LatexExtractionConfig, parse

    return parse(f"\\boxed{{{text}}}", [LatexExtractionConfig()], parsing_timeout=None)


# Digits with or without thousand commas. A minus counts unless it stands right behind what it would be subtracted from.
# `rest` is filled where the number is only the beginning of a product, a fraction or a power.
NUMBER = re.compile(
    r"(?<![0-9.])(?P<value>(?:(?<![\w)])[-+])?\$?(?:(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?|\.[0-9]++))"
    r"(?P<rest>(?:\s*[*/^]\s*[-+]?[0-9.,]+)*)"
)
MARKER = re.compile(r"\banswer\s*(?:\bis\b\s*:?|:)", re.IGNORECASE)


def exact(response: str, answer: str, **row: Any) -> float:
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


def extract_exact(response: str, answer: str) -> str | None:
    """The final answer that `exact` would compare with `answer`, so that equal ones are equal texts; None where there is none."""
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


OPEN, CLOSE = "<think>", "</think>"


def format(response: str, answer: str, **row: Any) -> dict[str, float]:
    r"""Part `format`: 1 iff the response has the asked-for form, else 0. Says nothing about the answer being right.

    The form: `<think>` first (white space aside) and once, `</think>` once, something thought between them, and behind
    them a balanced, non-empty \boxed{...} (the prompt of 2604.14646).
    """
    return {"format": float(_has_form(response))}


def _has_form(response: str) -> bool:
    text = response.strip()
    if not text.startswith(OPEN) or text.count(OPEN) != 1 or text.count(CLOSE) != 1:
        return False
    thought, _, rest = text.removeprefix(OPEN).partition(CLOSE)
    box = last_box(rest)
    return bool(thought.strip()) and box is not None and bool(box.strip())


def overlong_punishment(length: int, longest: int, share: float | None) -> float:
    """What a response of `length` tokens loses: 0 up to (1 - share) longest, then linear, -1 at `longest`. No share: 0.

    The paper's -1 beyond the longest cannot happen here: a response is cut off at `rollout.max_tokens`, and then has that length.
    """
    if share is None:
        return 0.0
    buffer = share * longest
    return min(0.0, (longest - buffer - length) / buffer)


Extract = Callable[[str, str], str | None]
"""(response, reference answer) -> the answer as text, equal for equal answers; None where the response gives none."""

COMPARING = ("boxed", "exact")
"""Graders whose accuracy is a comparison of one extracted answer with the reference."""


def extractor(fn: Any) -> Extract | None:
    """How the grader of `reward.fn` reads an answer; None for one that grades otherwise, as the user's own functions may."""
    names = [name for name in list_names(fn) if name != "format"]
    return {"boxed": extract_boxed, "exact": extract_exact}.get(names[0]) if len(names) == 1 else None
