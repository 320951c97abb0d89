"""Answers out of proportion are refused before they are computed; answers of real problems are not."""

import time

import pytest

from uec.rewards.graders import boxed
from uec.rewards.size import computable

BOMBS = {
    "a tower of powers": "9^{9^{9^{9}}}",
    "a tower without brackets": "9^9^9^9",
    "a tower of Python": "9**9**9**9",
    "a power of seven digits": "9^{9999999}",
    "a power of powers": "((9^{9999})^{9999})^{9999}",
    "a product in the exponent": "2^{99999 \\cdot 99999}",
    "a power of a tower's base": "(9^{999})^{9^{9}}",
    "a factorial": "(99999)!",
    "a factorial of a factorial": "(9!)!",
    "a factorial in a row": "99!!!",
    "a factorial of a power": "(9^{9})!",
    "a factorial in the exponent": "2^{99!}",
    "a long number": "7" * 401,
    "a megabyte of brackets": "(" * (1 << 20),
    "deep fractions": "\\frac{1}{" * 25 + "1" + "}" * 25,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=list(BOMBS))
def test_a_bomb_is_refused_at_once_and_earns_nothing(bomb: str) -> None:
    boxed("\\boxed{\\frac{1}{3}}", "\\frac{2}{6}")  # imports math-verify
    before = time.monotonic()
    assert not computable(bomb)
    assert boxed(f"\\boxed{{{bomb}}}", "\\frac{1}{3}") == 0.0
    assert time.monotonic() - before < 1.0


@pytest.mark.parametrize(
    "answer",
    [
        *("2^{2024}", "10^{100}", "2^{2^{3}}", "(1.05)^{360}", "x^{2024} + 2x^{-3} + x^{10}y^{12}z^{14}", "20! / 2^{10}", "(n+1)!"),
        *("\\frac{(2n)!}{n!\\,(n+1)!}", "\\frac{\\sqrt{3}}{2}", "\\{1, 2, 3\\}", "(x+1)^2(x-1)^3(x^2+1)^4", "1,000,000", "e^{-x^2}", "52!"),
        *("\\sum_{k=1}^{100} k^2", "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "", "x != 5"),
    ],
)
def test_answers_of_real_problems_are_computed(answer: str) -> None:
    assert computable(answer)


def test_a_reference_out_of_proportion_is_still_compared() -> None:
    assert not computable("1" * 401 + "+1") and not computable("1" * 400 + "2")
    assert boxed(f"\\boxed{{{'1' * 401} + 1}}", "1" * 400 + "2") == 1.0
