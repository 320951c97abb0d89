r"""The built-in graders `boxed`, `exact` and `format`, the answers that they read, and the overlong punishment.

A grader is a function (response, answer, **row) -> accuracy or reward parts. An extractor is a function (response, answer)
-> the answer as text, for majority voting: answers that the grader finds equal are equal texts, None is no answer.
"""

import re
from decimal import Decimal
from typing import Any

# An escaped character, brace or not, is consumed whole, so that `\{` opens nothing.
BOX_TOKEN = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)


def last_box(text: str) -> str | None:
    r"""Return the content of the last-opened \boxed{...} whose braces balance, or None. It takes one pass over any text."""
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


# Longer answers are compared as texts: the parser's time grows fast with nested braces, and no reference is that long.
LONGEST_PARSED = 128
INTEGER = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)")


def boxed(response: str, answer: str, **row: Any) -> float:
    r"""Return 1 iff the last balanced \boxed{...} holds `answer`, else 0. A response without a box is wrong, not an error.

    Equal answers are equal texts, and what math-verify finds equal: `1/2`, `0.5` and `\frac{1}{2}`; `1,234` and `1234`;
    `x=5` and `5`; `18\text{ dollars}` and `18`. The reference may be boxed or stand between `$`.

    math-verify's time limits are switched off: they use signals, which do not interrupt a thread or a C function that
    hangs. The grading process is killed instead (uec/rewards/process.py).
    """
    content = last_box(response)
    if content is None:
        return 0.0
    reference = last_box(answer)
    wanted, found = _strip_box(answer if reference is None else reference), _strip_box(content)
    if wanted == found:
        return float(wanted != "")
    if len(found) > max(LONGEST_PARSED, 2 * len(wanted)):
        return 0.0
    if INTEGER.fullmatch(wanted) and INTEGER.fullmatch(found):
        # The verdict of math-verify, in a microsecond instead of milliseconds: most answers are integers.
        return float(_integer(wanted) == _integer(found))
    from math_verify import verify  # imported here because it takes a second, and only this grader needs it

    return float(verify(_parse(wanted), _parse(found), timeout_seconds=None))


def extract_boxed(response: str, answer: str) -> str | None:
    r"""Return the content of the last box without white space, integers without commas; None without a box. Nothing is parsed."""
    content = last_box(response)
    if content is None:
        return None
    text = _strip_box(content)
    return str(_integer(text)) if INTEGER.fullmatch(text) else "".join(text.split()) or None


def _integer(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def _strip_box(text: str) -> str:
    """Remove white space, `$` and a final full stop around the content of a box."""
    return text.strip().strip("$").strip().removesuffix(".").strip()


def _parse(text: str) -> list[Any]:
    """Return math-verify's expression, or the text if it is none. Only LaTeX is read: the other parser calls eval."""
    from math_verify import LatexExtractionConfig, parse

    return parse(f"\\boxed{{{text}}}", [LatexExtractionConfig()], parsing_timeout=None)


# Digits with or without thousands commas. A minus counts unless it stands right behind what it would be subtracted from.
# `rest` matches where the number is only the beginning of a product, a fraction or a power.
NUMBER = re.compile(
    r"(?<![0-9.])(?P<value>(?:(?<![\w)])[-+])?\$?(?:(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?|\.[0-9]++))"
    r"(?P<rest>(?:\s*[*/^]\s*[-+]?[0-9.,]+)*)"
)
MARKER = re.compile(r"\banswer\s*(?:\bis\b\s*:?|:)", re.IGNORECASE)
MINUS_SIGN = "\u2212"  # typographic


def exact(response: str, answer: str, **row: Any) -> float:
    """Return 1 iff the final answer of the response equals `answer`, else 0.

    The final answer stands behind the last `####`, or else behind the last "answer is", "answer is:" or "answer:"; it is
    the first line there that is not blank. Without such a marker it is the whole response.

    A reference that is a number (`1,234`, `$18`, `-3.50`) is compared by value, with the first number behind the last
    `=` of the marked text, so that `18 dollars` and `6 * 3 = 18` are right; without a marker, with the response's last
    number. `1/5` is no number: the reference 1 does not equal it. Any other reference is compared as text: white space is
    collapsed, and case, surrounding `$`, `*` and quotes and a final full stop are ignored. A reference that contains
    `####` (raw GSM8K) is the text behind it.
    """
    reference = answer.rpartition("####")[2]
    wanted = _only_number(reference)
    if wanted is None:
        return float(_plain(_final_answer(response)[0]) == _plain(reference) != "")
    found = _final_number(response)
    return float(found is not None and not found["rest"] and _value(found) == wanted)


def extract_exact(response: str, answer: str) -> str | None:
    """Return the final answer that `exact` would compare with `answer`, or None if there is none."""
    if _only_number(answer.rpartition("####")[2]) is None:
        return _plain(_final_answer(response)[0]) or None
    found = _final_number(response)
    return None if found is None else f"{_value(found).normalize():f}{''.join(found['rest'].split())}"


def _final_answer(response: str) -> tuple[str, bool]:
    """Return the text that holds the final answer, and whether a marker points at it."""
    _, mark, marked = response.rpartition("####")
    if not mark:
        # Markdown emphasis may stand inside the marker: `**Answer**: 18`.
        text = response.replace("**", "")
        ends = [match.end() for match in MARKER.finditer(text)]
        if not ends:
            return response, False
        marked = text[ends[-1] :]
    return next((line for line in marked.splitlines() if line.strip()), ""), True


def _final_number(response: str) -> re.Match[str] | None:
    """Return the number of the final answer: the first one behind a marker and its last `=`, else the last one."""
    text, marked = _final_answer(response)
    numbers = list(NUMBER.finditer((text.rpartition("=")[2] if marked else text).replace(MINUS_SIGN, "-")))
    return numbers[0 if marked else -1] if numbers else None


def _plain(text: str) -> str:
    """Return the text as it is compared."""
    return " ".join(text.split()).strip("$*\"'` ").removesuffix(".").strip("$*\"'` ").casefold()


def _only_number(text: str) -> Decimal | None:
    """Return the value of a text that is one number and nothing else, or None."""
    match = NUMBER.fullmatch(_plain(text).replace(MINUS_SIGN, "-"))
    return _value(match) if match and not match["rest"] else None


def _value(number: re.Match[str]) -> Decimal:
    return Decimal(number["value"].replace(",", "").replace("$", ""))


OPEN, CLOSE = "<think>", "</think>"


def format(response: str, answer: str, **row: Any) -> dict[str, float]:
    r"""Return the part `format`: 1 iff the response has the requested form, else 0, whether its answer is right or wrong.

    The form: `<think>` comes first (after white space) and once, then a non-empty thought, then `</think>` once, and behind
    it a balanced, non-empty \boxed{...} (the prompt of 2604.14646).
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
    """Return DAPO's soft overlong punishment of a response of `length` tokens.

    It is 0 up to (1 - share) * longest, then falls linearly to -1 at `longest`. Without a share it is 0. The paper's -1
    beyond `longest` cannot occur: a response is cut off at `rollout.max_tokens`, and then has that length.
    """
    if share is None:
        return 0.0
    buffer = share * longest
    return min(0.0, (longest - buffer - length) / buffer)
