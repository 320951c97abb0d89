r"""Grader `boxed`: what stands in the last \boxed{...} equals the reference answer, as math-verify sees it."""

import re
from decimal import Decimal
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

from uec.rewards.box import last_box

LATEX = [LatexExtractionConfig()]
# A longer answer is compared as text: the parser's time grows fast with nested braces, and no reference is that long.
LONGEST = 128
INTEGER = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)")


def score(response: str, answer: str, **row: Any) -> float:
    r"""1 iff the last balanced \boxed{...} holds `answer`, else 0; no box is a wrong answer, not an error.

    Equal are: equal texts; what math-verify finds equal (`1/2`, `0.5` and `\frac{1}{2}`; `1,234` and `1234`;
    `x=5` and `5`; `18\text{ dollars}` and `18`). The reference may be boxed or stand between `$`.

    math-verify's own time limits are off: they are signals, which a thread or a stuck C call never sees. The grading
    process is killed instead (uec/rewards/process.py).
    """
    found = last_box(response)
    if found is None:
        return 0.0
    boxed = last_box(answer)
    wanted, found = _bare(answer if boxed is None else boxed), _bare(found)
    if wanted == found:
        return float(wanted != "")
    if len(found) > max(LONGEST, 2 * len(wanted)):
        return 0.0
    if INTEGER.fullmatch(wanted) and INTEGER.fullmatch(found):
        # What math-verify would say, in a microsecond instead of milliseconds: most answers are integers.
        return float(_integer(wanted) == _integer(found))
    return float(verify(_parse(wanted), _parse(found), timeout_seconds=None))


def extract(response: str, answer: str) -> str | None:
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
    return parse(f"\\boxed{{{text}}}", LATEX, parsing_timeout=None)
