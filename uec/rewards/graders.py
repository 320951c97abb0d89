r"""The built-in graders `boxed`, `exact` and `format`, the answers that they read, and the overlong punishment.

A grader is a function (response, answer, **row) -> accuracy or reward parts. An extractor is a function (response, answer)
-> the answer as text, for majority voting: answers that the grader finds equal are equal texts, None is no answer. A reference that
is a list of accepted answers is met by any one of them.
"""

import re
from fractions import Fraction
from typing import Any

from uec.rewards.answer_text import (
    PROMPT_OPENS_THINK,
    boxed_answer,
    comparable,
    final_answer,
    fold,
    last_box,
    plain,
    without_thought,
)
from uec.rewards.exact_answer import choice, chosen, final_quantity, is_right, reference_text
from uec.rewards.quantity import Quantity, equal, read_whole, show
from uec.rewards.symbolic import same_mathematics

Reference = str | list[str]
"""One reference answer, or several accepted ones."""

# Longer answers are compared as texts: the parser's time grows fast with nested braces, and no reference is that long.
LONGEST_PARSED = 128


def exact(response: str, answer: Reference, **row: Any) -> float:
    """Return 1 iff the final answer of the response equals `answer`, or one of them, else 0.

    The final answer stands behind the last `####`, `answer is`, `answer:` or heading `Answer`, in the last `<answer>` tag, or else in
    the last box; it is the first line there that is not blank. Without any of these it is the whole response.

    A reference that is a number (`1,234`, `$18`, `1/2`, `2 1/4`, `1e5`, `5 km`) is compared by value, exactly, with the number that the
    final answer is, so that `18 dollars` and `6 * 3 = 18` are right; without a marker, with the response's last number. Any other
    reference is compared as a choice (`B`), a list, or text: white space is collapsed, and case, LaTeX that only formats, and outer
    punctuation are ignored. A reference that contains `####` (raw GSM8K) is the text behind it. docs/your-data.md has a table.
    """
    if _is_all_thought(response, row):
        return 0.0
    return float(any(is_right(response, one) for one in _references(answer)))


def extract_exact(response: str, answer: Reference) -> str | None:
    """Return the final answer that `exact` would compare with `answer`, or None if there is none."""
    references = _references(answer)
    if not references:
        return None
    met = next((one for one in references if is_right(response, one)), None)
    reference = reference_text(references[0])
    wanted = read_whole(plain(reference))
    if met is not None:
        return show(wanted) if wanted is not None else comparable(reference)
    text, marked = final_answer(response)
    if wanted is None:
        return comparable(text) or None
    found = final_quantity(text, marked)
    return None if found is None else _vote(wanted, found)


def boxed(response: str, answer: Reference, **row: Any) -> float:
    r"""Return 1 iff the last balanced \boxed{...} holds `answer`, or one of them, else 0. Without a box, the response is wrong.

    Boxes that `and`, `or` or a comma joins are one answer. Equal answers are equal texts, equal numbers with equal units (`1,234` and
    `1234`, `2\frac14` and `9/4`, `18\text{ dollars}` and `18`), equal choices, and what math-verify finds equal: `1/2`, `0.5` and
    `\frac{1}{2}`; `x=5` and `5`. The reference may be boxed or stand between `$`. docs/your-data.md has a table.
    """
    content = None if _is_all_thought(response, row) else boxed_answer(without_thought(response))
    return 0.0 if content is None else float(any(_same_box(one, content) for one in _references(answer)))


def extract_boxed(response: str, answer: Reference) -> str | None:
    r"""Return the content of the last box without white space, numbers in one form; None without a box. Nothing is parsed."""
    content = boxed_answer(without_thought(response))
    if content is None:
        return None
    text = _tidy(content)
    number = read_whole(plain(text), decimal_comma=False)
    if number is None or "\\frac" in text:
        return "".join(text.split()) or None
    return _vote(number, number)


def _vote(wanted: Quantity, found: Quantity) -> str:
    return show(wanted) if equal(wanted, found) else f"{show(found)} {found.unit}".strip()


def _references(answer: Reference) -> list[str]:
    return [answer] if isinstance(answer, str) else list(answer)


SPACE = r"(?:\s|~|\\\\|\\[,;:! ]|\\q?quad(?![a-z]))"
AROUND = re.compile(
    rf"^(?:{SPACE}|\\displaystyle|\\approx|\\\(|\\\[|[$=:≈])+|(?:{SPACE}|\\\)|\\\]|[$,;:])+\\?$|(?<!\\)\\$|(?<=[^.\s])\.(?:{SPACE}|\$)*$"
)
SAID = re.compile(r"^\s*(?:\\(?:text|mathrm|textbf)\s*\{)?\s*(?:the\s+)?(?:final\s+)?answer\s*(?:is\s*:?|:)\s*\}?\s*", re.IGNORECASE)
WRAPPED = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|textrm|boxed|fbox|boldsymbol)\s*\{([^{}]*)\}")
WORDS = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*\.?")
PRODUCT = re.compile("(?!no|on)[A-Za-z]{1,2}|[B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{3}")  # letters that are variables rather than a word
POWER = r"(?:\s*\^\s*\{?-?[1-9]\}?)?"
UNIT_END = re.compile(
    rf"(?:(?:\\[,;: ]|\s|~)*\\(?:text|mathrm|textrm|mbox|textnormal|operatorname)\s*\{{\s*[^\W\d_][^{{}}]*\}}{POWER})+$"
    rf"|(?:\\[,;: ]|\s|~)+(?:[cmk]m|kg|ft|inch(?:es)?|meters?|feet|units?|miles?|hours?|minutes?|seconds?|dollars?){POWER}$"
)


def _tidy(text: str) -> str:
    """Return the content of a box without what surrounds the answer: spaces, `$`, a comma, a full stop, `answer is`."""
    text = fold(text).strip()
    for _ in range(3):
        text = SAID.sub("", AROUND.sub("", text)).strip()
    return text


def _same_box(answer: str, content: str) -> bool:
    reference = boxed_answer(answer)
    wanted, found = _tidy(answer if reference is None else reference), _tidy(content)
    if wanted == found:
        return wanted != ""
    if not wanted or not found or len(found) > max(LONGEST_PARSED, 2 * len(wanted)):
        return False
    letters = _letters(wanted)
    if letters is not None:
        return _chosen_letters(found) == letters
    first, second = (read_whole(plain(side), decimal_comma=False) for side in (wanted, found))
    if first is not None and second is not None:
        return equal(first, second)
    if first is not None and first.base != 10 or second is not None and second.base != 10:
        return False
    words = [_words(side) for side in (wanted, found)]
    if all(words) and ("\\" in wanted + found or not all(map(PRODUCT.fullmatch, words))):
        return comparable(wanted) == comparable(found)
    wanted, found, units_agree = _without_units(wanted, found, first, second)
    return units_agree and same_mathematics(wanted, found)


def _words(text: str) -> str:
    """Return the text if it is words, not mathematics: math-verify would multiply their letters, and `act` would be `cat`."""
    bare = WRAPPED.sub(r"\1", text).strip()
    return bare if WORDS.fullmatch(bare) and bare.lower() not in ("pi", "infinity", "e", "i") else ""


def _letters(wanted: str) -> set[str] | None:
    """Return the choices of a reference such as `B`, `(B)`, `AC` or `A, C`; None if it is none."""
    bare = re.sub(r"[\s,;()]|and", "", WRAPPED.sub(r"\1", wanted))
    if re.fullmatch("[A-J]{2,5}", bare) and list(bare) == sorted(set(bare)):
        return set(bare)
    letter = choice(WRAPPED.sub(r"\1", wanted))
    return None if letter is None else {letter}


def _chosen_letters(found: str) -> set[str] | None:
    text = WRAPPED.sub(r" \1 ", found)
    bare = re.sub(r"[\s,;()&]|and", "", text)
    if re.fullmatch("[A-J]{1,5}", bare) and len(set(bare)) == len(bare):
        return set(bare)
    one = chosen(text)
    return None if one is None else {one[0]}


def _without_units(wanted: str, found: str, first: Quantity | None, second: Quantity | None) -> tuple[str, str, bool]:
    r"""Return both sides without a unit at their ends, and whether the units agree.

    A side that is a number, `first` or `second`, becomes a fraction, since the parser would read `1e5` and `2 1/4` as products.
    """
    one, other = _without_unit(wanted, first), _without_unit(found, second)
    return one[0], other[0], equal(Quantity(Fraction(1), one[1]), Quantity(Fraction(1), other[1]))


def _without_unit(side: str, number: Quantity | None) -> tuple[str, str]:
    if number is not None:
        value = number.value / 100 if number.unit == "%" else number.value
        text = str(value) if value.denominator == 1 else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
        return text, "" if number.unit == "%" else number.unit
    match = UNIT_END.search(side)
    unit = None if match is None or match.start() == 0 else read_whole("1 " + plain(match[0]))
    return (side, "") if match is None or unit is None else (side[: match.start()], unit.unit)


OPEN, CLOSE = "<think>", "</think>"


def _is_all_thought(response: str, row: dict[str, Any]) -> bool:
    """Return whether a thought that the prompt opens is never closed."""
    return bool(row.get(PROMPT_OPENS_THINK)) and CLOSE not in response


def format(response: str, answer: str, prompt_opens_think: bool = False, **row: Any) -> dict[str, float]:
    r"""Return the part `format`: 1 iff the response has the requested form, else 0, whether its answer is right or wrong.

    The form: `<think>` comes first (after white space) and once, then a non-empty thought, then `</think>` once, and behind
    it a balanced, non-empty \boxed{...} (the prompt of 2604.14646). Where the prompt ends with `<think>`, the response begins inside
    the thought.
    """
    return {"format": float(_has_form(OPEN + response if prompt_opens_think else response))}


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
