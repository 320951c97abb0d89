r"""Mathematical equality by math-verify, asked exactly, and what it gets wrong, worked round here.

Both sides are parsed as LaTeX in a box (math-verify's other parser calls eval). It is not asked to drop units, because it takes the
variables t, h, s, m, c, d, l, g and o for units. Its decimals become fractions, and its yes is checked again, because it rounds
decimals to six places and takes a difference below 1e-15 for zero. Its time limits are switched off: they use signals, which do not
interrupt a thread or a C function that hangs; the grading process is killed instead (uec/rewards/process.py). So that a tower of powers
does not hold a grading process for a whole time limit, an answer out of proportion is refused before it is parsed (uec/rewards/size.py).
"""

import re
from functools import cache
from typing import Any

from uec.rewards.size import computable

DIGITS = 50  # of the second comparison
POINTS = ((7, 13), (17, 11), (5, 3), (2, 7))  # (a, b): variable number i becomes a/b + i/19
GREEK = "alpha beta gamma delta epsilon theta lambda mu sigma phi omega".split()
LETTERS = {
    **{"π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt", "×": r"\times ", "·": r"\cdot ", "÷": "/", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne "},
    **{"±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ", "∅": r"\emptyset ", "∈": r"\in ", "≈": "=", "°": r"^\circ "},
    **dict(zip("αβγδεθλμσφω", (rf"\{name} " for name in GREEK), strict=True)),
}
NAME = re.compile(r"\s*(?:\\?[A-Za-z]+|\\text\{[^{}]*\}|\\mathrm\{[^{}]*\})\s*(?:_\{?\w+\}?)?'?\s*(?:\([\w, ]*\))?\s*")
MATRIX = re.compile(r"\\begin\{[pbvB]?matrix\}(.*?)\\end\{[pbvB]?matrix\}", re.DOTALL)


def same_mathematics(wanted: str, found: str) -> bool:
    """Return whether two LaTeX texts are equal as mathematics: numbers, expressions, equations, lists, sets, intervals, matrices.

    An answer that is out of proportion is not equal; a reference that is too is the user's, and has its answers compared.
    """
    if not computable(found) and computable(wanted):
        return False
    wanted, found = latex(wanted), latex(found)
    if MATRIX.fullmatch(wanted) is None or MATRIX.fullmatch(found) is None:
        wanted, found = _vector_as_tuple(wanted), _vector_as_tuple(found)
    found = _value_of_assignment(wanted, found)
    if _is_refused(wanted, found):
        return False
    gold, target = _parse(wanted), _parse(found)
    if gold is None or target is None:
        return False
    from math_verify import verify

    gold, target = _with_fractions(gold), _with_fractions(target)
    gold, target = _as_union(gold, target), _as_union(target, gold)
    if not _same_kind(gold, target):
        return False
    return verify(gold, target, timeout_seconds=None, allow_set_relation_comp=True) and _confirmed(gold, target)


def latex(text: str) -> str:
    r"""Return text as LaTeX that the parser reads: `pi/3` is `\pi /3`, `√2` is `\sqrt{2}`, `sqrt(2)` is `\sqrt{2}`, `x**2` is `x^2`."""
    text = "".join(LETTERS.get(letter, letter) for letter in text)
    text = text.replace("**", "^").replace("\\approx", "=").replace("\\langle", "(").replace("\\rangle", ")")
    text = re.sub(r"(?<![A-Za-z\\])(pi|sqrt)(?![a-z])", r"\\\1 ", text)
    text = re.sub(r"(?<![A-Za-z\\])infinity(?![a-z])", r"\\infty ", text)
    text = re.sub(r"(?<![A-Za-z\\])(sin|cos|tan|sec|csc|cot|ln|log)(?![a-z])", r"\\\1 ", text)
    text = re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\sqrt\s*([0-9]+)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\(?:bm|mathbf|boldsymbol|displaystyle|textstyle)\b", "", text)
    text = re.sub(r"\s*\\text(?:rm)?\s*\{\s*(or|and)\s*\}\s*", r", ", text)
    text = re.sub(r"\\(?:left|right|[bB]ig[lr]?)(?![a-z])", "", text)
    text = re.sub(r"(?<!\\)\\[,;:! ]|~|\\q?quad", " ", text)
    return re.sub(r"^[A-Za-z]\s*\\in(?![a-z])", "", " ".join(text.split())).strip()


def _vector_as_tuple(text: str) -> str:
    """Return a matrix of one row or one column as a tuple."""
    match = MATRIX.fullmatch(text)
    if match is None:
        return text
    rows = [row.split("&") for row in re.split(r"\\\\", match[1]) if row.strip()]
    if len(rows) > 1 and all(len(row) == 1 for row in rows):
        return f"({','.join(row[0].strip() for row in rows)})"
    return f"({','.join(cell.strip() for cell in rows[0])})" if len(rows) == 1 and len(rows[0]) > 1 else text


def _bracket(text: str) -> str:
    """Return what encloses the whole text: `(` for a tuple or an interval, `{` for a set, nothing for a list or anything else."""
    text = text.strip().replace("\\{", "{").replace("\\}", "}").replace("\\lbrace", "{").replace("\\rbrace", "}")
    if not text or text[0] not in "([{" or text[-1] not in ")]}":
        return ""
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0 and position < len(text) - 1:
            return ""
    return "(" if text[0] in "([" else "{"


def _has_items(text: str) -> bool:
    return "," in re.sub(r"\{[^{}]*\}", "", text.replace("\\{", "").replace("\\}", ""))


def _is_refused(wanted: str, found: str) -> bool:
    r"""Return whether the two differ in what math-verify does not look at.

    - `1011_2`: it drops the index of a number.
    - `(3,-4)` against `3,-4` or `\{3,-4\}`: it compares tuple, list and set by their items.
    - `2, 2` against `2`: it makes a set of a list; the number of items must be equal.
    - `5 \pmod 7`: it reads `mod` as variables.
    - `3.14...`: it drops the dots.
    """
    if any(re.search(r"\.\.\.|\\[lc]?dots", text) for text in (wanted, found)):
        return True
    if any(re.search(r"(?<![A-Za-z}_0-9])[0-9.]+\s*_|\\p?mod|\\bmod|\\\\pmod", text) for text in (wanted, found)):
        return True
    if _has_items(wanted) and _has_items(found):
        brackets = {_bracket(wanted), _bracket(found)}
        if "(" in brackets and len(brackets) > 1 and "\\cup" not in wanted + found:
            return True
    if "\\cup" in wanted + found:
        return False
    listed = [not _bracket(text) or _bracket(text) == "{" for text in (wanted, found)]
    return all(listed) and "\\pm" not in wanted + found and _count(wanted) != _count(found)


def _count(text: str) -> int:
    """Return the number of items of a list or a set."""
    inner = text.strip()
    if _bracket(inner) == "{":
        inner = re.sub(r"^\\?\{|\\?\}$|^\\lbrace|\\rbrace$", "", inner)
    depth, count = 0, 1
    for piece in re.findall(r"\\[{}]|[(\[{}\])]|,(?![0-9]{3}(?![0-9]))|;|\bor\b|\band\b", inner):
        depth += (piece[-1] in "([{") - (piece[-1] in ")]}")
        count += depth == 0 and piece in (",", ";", "or", "and")
    return count


def _value_of_assignment(wanted: str, found: str) -> str:
    """Return the right side of `x = 5` or of a chain `x = 2 + 3 = 5` where the reference is no equation.

    math-verify takes the right side of any equation: `x + y = 1` would be 1, and `6 = 5` would be 5.
    """
    if "=" not in found or re.search(r"(?<![<>!\\])=", wanted):
        return found
    sides = [item.split("=") for item in re.split(r",|\bor\b|\band\b", found)]
    if len(sides) > 1 and all(len(side) == 2 and NAME.fullmatch(side[0]) for side in sides):
        values = ",".join(side[1] for side in sides)
        same = len({side[0].strip() for side in sides}) == 1
        return values if same else f"({values})" if _bracket(wanted) == "(" else found
    left, *middle, right = re.split(r"(?<![<>!])=", found)
    if NAME.fullmatch(left):
        return right
    if middle or "," in found:
        return found
    holds = not re.search("[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", found)) and same_mathematics(left, right)
    return right if holds else r"\text{an equation}"


@cache
def _config() -> Any:
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig

    normal = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all", equations=False)
    return LatexExtractionConfig(normalization_config=normal)


def _parse(text: str) -> Any:
    """Return math-verify's expression, or None if the text is none."""
    from math_verify import parse

    parsed = parse(f"\\boxed{{{text}}}", [_config()], fallback_mode="no_fallback", parsing_timeout=None)
    return parsed[0] if parsed and not isinstance(parsed[0], str) else None


def _with_fractions(expression: Any) -> Any:
    """Return the expression with a fraction for each decimal, as it was written, and percentages multiplied out."""
    from sympy import Float, Rational, UnevaluatedExpr

    if not hasattr(expression, "atoms"):
        return expression
    values = {number: Rational(str(number)) for number in expression.atoms(Float) if number.is_finite}
    if not values and not expression.has(UnevaluatedExpr):
        return expression
    try:
        return expression.subs(values) if values else expression
    except (AttributeError, TypeError, ValueError):
        return expression


def _same_kind(gold: Any, target: Any) -> bool:
    """Refuse a tuple against a set, and a number against anything that has several values."""
    from sympy import FiniteSet, Tuple

    kinds = [next((kind for kind in (FiniteSet, Tuple) if isinstance(side, kind)), None) for side in (gold, target)]
    return set(kinds) != {FiniteSet, Tuple}


def _as_union(side: Any, other: Any) -> Any:
    """Return `x < 1, x > 2` as a union of intervals where the other side is a union."""
    from sympy import FiniteSet, Union
    from sympy.core.relational import Relational

    if isinstance(other, Union) and isinstance(side, FiniteSet) and all(isinstance(one, Relational) for one in side.args):
        return Union(*(one.as_set() for one in side.args)) if len(side.free_symbols) == 1 else side
    return side


def _confirmed(gold: Any, target: Any) -> bool:
    """Return whether what math-verify finds equal is equal in 50 digits, relative to its size."""
    from latex2sympy2_extended.logic import And
    from sympy import Eq, Expr, FiniteSet, Interval, MatrixBase, Tuple
    from sympy.core.relational import Relational

    if isinstance(target, Eq) and not isinstance(gold, Eq):
        target = target.rhs
    if isinstance(gold, Eq) and not isinstance(target, Eq):
        gold = gold.rhs
    if isinstance(gold, Eq) and isinstance(target, Eq):
        return _confirmed(gold.rhs, target.rhs) if gold.lhs == target.lhs and gold.lhs.is_Symbol else True
    if isinstance(gold, MatrixBase) and isinstance(target, MatrixBase):
        return gold.shape == target.shape and all(map(_confirmed, gold.flat(), target.flat()))
    if isinstance(gold, Tuple) and isinstance(target, Tuple):
        return len(gold) == len(target) and all(map(_confirmed, gold, target))
    if isinstance(gold, FiniteSet) and isinstance(target, FiniteSet):
        return all(any(_confirmed(one, other) for other in target.args) for one in gold.args)
    if isinstance(gold, Interval) and isinstance(target, Interval):
        return _confirmed(gold.start, target.start) and _confirmed(gold.end, target.end)
    if isinstance(gold, And) and isinstance(target, And) and len(gold.args) == len(target.args):
        return all(any(_confirmed(one, other) for other in target.args) for one in gold.args)
    if isinstance(gold, Relational) and isinstance(target, Relational):
        return _proportional(gold.lhs - gold.rhs, target.lhs - target.rhs)
    return _equal_values(gold, target) if isinstance(gold, Expr) and isinstance(target, Expr) else True


def _proportional(gold: Any, target: Any) -> bool:
    """Return whether the two sides of inequalities have one ratio for any values of their variables."""
    from sympy import Rational

    names = sorted(gold.free_symbols | target.free_symbols, key=str)
    points = [{name: Rational(above, below) + Rational(index, 19) for index, name in enumerate(names)} for above, below in POINTS[:2]]
    (one, other), (third, fourth) = ((gold.subs(values), target.subs(values)) for values in points)
    return _equal_values(one * fourth, third * other)


def _equal_values(gold: Any, target: Any) -> bool:
    """Compare two expressions exactly if they are fractions, else in 50 digits with numbers for their variables."""
    from sympy import Rational, nan, oo, zoo

    if gold == target:
        return True
    names = sorted(gold.free_symbols | target.free_symbols, key=str)
    for above, below in POINTS:
        values = {name: Rational(above, below) + Rational(index, 19) for index, name in enumerate(names)}
        first, second = gold.subs(values).doit(), target.subs(values).doit()
        if first.is_Rational and second.is_Rational:
            return bool(first == second)
        one, other = first.evalf(DIGITS + 10), second.evalf(DIGITS + 10)
        if one in (nan, zoo, oo, -oo) or other in (nan, zoo, oo, -oo) or not (one.is_number and other.is_number):
            continue
        size = max(abs(one), abs(other))
        return bool(size == 0 or abs(one - other) < size * Rational(1, 10**DIGITS))
    return True
