r"""Whether an answer is small enough to be computed: SymPy evaluates powers and factorials of numbers while it parses them."""

import math
import re

LONGEST = 2000  # characters
DIGITS = 400  # of a number
DEEPEST = 24  # brackets within brackets
HEIGHT = 2  # powers within powers: 2^{2^{3}} is computed, 2^{2^{2^{2}}} is not
EXPONENT = 100_000  # product of the exponents that one number may get: 10^{100000} is computed, and so is (2^{300})^{300}
TALL = 64  # an exponent's exponent is taken for this if it is larger: 2 to it is over EXPONENT in any case
FACTORIAL = 2000  # the largest n of n!

PIECE = re.compile(r"\\[A-Za-z]+|\*\*|[0-9][0-9,]*|[^\s\\]")


def computable(text: str) -> bool:
    """Return whether the numbers of a LaTeX text stay small and its brackets flat. It takes linear time."""
    if len(text) > LONGEST or any(len(number) > DIGITS for number in re.findall("[0-9]+", text)):
        return False
    pieces = ["^" if piece == "**" else piece for piece in PIECE.findall(text)]
    return _factorials_are_small(pieces) and _powers_are_small(pieces)


def _number(piece: str) -> int:
    digits = piece.replace(",", "")
    return int(digits) if len(digits) < 8 else 10**8


def _factorials_are_small(pieces: list[str]) -> bool:
    """Return whether each factorial is of a small number, a name, or a bracket without powers and factorials."""
    opened: list[int] = []
    group: list[str] = []  # what the last bracket that was closed holds
    for position, piece in enumerate(pieces):
        if piece in "([{":
            opened.append(position)
        elif piece in ")]}":
            group = pieces[opened.pop() + 1 : position] if opened else []
        elif piece == "!" and position:
            operand = group if pieces[position - 1] in ")]}" else [pieces[position - 1]]
            if {"!", "^"} & set(operand) or math.prod(max(_number(one), 1) for one in operand if one[0].isdigit()) > FACTORIAL:
                return False
    return True


def _powers_are_small(pieces: list[str]) -> bool:
    """Return whether brackets and powers nest little, and whether the exponents, multiplied where they may meet, stay small."""
    outer: list[tuple[int, int]] = []  # (base, chain) of each open bracket
    base = chain = 0  # powers around the open bracket; powers in a row after it, as in a^b^c
    exponent = others = met = largest = 1  # the present one; product of those of brackets before it, with it; largest other
    expected = of_bracket = False
    before = ""
    for piece in [*pieces, " "]:
        if piece == "^":
            if base == chain == 0:
                exponent, others, of_bracket = 1, met, before in (")", "]", "}")
            chain, expected = chain + 1, True
            if base + chain > HEIGHT:
                return False
        elif piece in ("(", "[", "{"):
            chain = chain if expected else 0
            outer.append((base, chain))
            base, chain, expected = base + chain, 0, False
            if len(outer) > DEEPEST:
                return False
        elif piece in (")", "]", "}"):
            base, chain = outer.pop() if outer else (0, 0)
            expected = False
        elif not (expected and piece in "+-"):
            if piece == "!" and base + chain:
                return False
            chain = chain if expected else 0
            expected = False
            if base + chain and piece[0].isdigit():
                number = max(_number(piece), 1)
                exponent = exponent ** min(number, TALL) if base + chain > 1 else exponent * number
                met, largest = (others * exponent, largest) if of_bracket else (met, max(largest, exponent))
        before = piece
        if met * largest > EXPONENT:
            return False
    return True
