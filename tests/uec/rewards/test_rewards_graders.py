"""The built-in graders exact, boxed and format, on hand-written responses and on problems of GSM8K."""

import json
import re
import time
from pathlib import Path

import pytest

from uec.rewards.graders import boxed, exact, format, last_box

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "gsm8k_sample.jsonl"
GSM8K = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
GOLD = [re.findall(r"####\s*(.+)", row["answer"])[-1] for row in GSM8K]

# Responses as models write them to problems of the sample (by line, from 0), and whether they are right.
WRITTEN = [
    (0, "The repairs raised the value by 150%, that is $120,000, so the house is worth $200,000.\nProfit: $70,000.", "70,000", True),
    (0, "200000-80000-50000=70000, the answer is $70000.", "70000", True),
    (0, "The value went up by 195000, so he made 195,000 - 130,000.\n**Answer:** $65,000", "65000", False),
    (3, "Amy made 50 + 20 = 70 friends. Together 50 + 70 = 120.\n#### 120", "120", True),
    (3, "Amy made 50 + 20 = 70 friends.\n#### 70", "70", False),
    (11, "Twice of 15 + 24 is 2 * 39 = 78.\n\nThe final answer is: 78 minutes.", "78\\text{ minutes}", True),
    (13, "Joey 240, Marcy 235.0, so Joey leads by 240 - 235 = 5 points.", "5", True),
    (20, "Answer: 4 weeks, not 5.", "4", True),
    (28, "He sells 50,000 - 8,000 * 4 = 18,000... wait, the answer is 18,000. No: the answer is 14,000.", "14000", True),
    (28, "The answer is 14,000.5", "14000.5", False),
    (39, "She is 6 feet = 72 inches tall, then 74, then 69, then 72.\nThe answer is\n\n72 inches", "72 \\text{inches}", True),
    (39, "The fourth child is 6 feet tall.", "6", False),
    (43, "1,200 gallons come to $1.2 \\times 10^3$, the answer is 1200", "1.2 \\times 10^3", True),
    (43, "The answer is", "", False),
]


@pytest.mark.parametrize(("problem", "response", "box", "right"), WRITTEN)
def test_written_responses_to_gsm8k_problems_are_graded_as_a_person_would(problem: int, response: str, box: str, right: bool) -> None:
    question = GSM8K[problem]["question"]
    assert exact(response, GOLD[problem], question=question) == right
    assert boxed(f"{response} \\boxed{{{box}}}", GOLD[problem], question=question) == right


def test_a_gsm8k_problem_is_solved_by_its_solution_and_by_no_other_answer() -> None:
    assert len(GSM8K) == 50
    for row, gold, other in zip(GSM8K, GOLD, GOLD[1:] + GOLD[:1], strict=True):
        assert exact(row["answer"], gold) == 1.0
        assert exact(row["answer"], row["answer"]) == 1.0, "the raw column is a valid reference"
        assert boxed(f"\\boxed{{{gold}}}", gold) == 1.0
        if float(other.replace(",", "")) != float(gold.replace(",", "")):
            assert exact(row["answer"], other) == 0.0
            assert boxed(f"\\boxed{{{other}}}", gold) == 0.0


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        ("#### 5 #### 6", "6", True),
        ("#### 5 #### 6", "5", False),
        ("#### 18\nThat was it, 7 times.", "18", True),
        ("The answer is 7. #### 8", "8", True),  # the stronger marker
        ("The answer is x = 5", "5", True),
        ("the ANSWER Is: -3", "-3", True),
        ("the answer is \u22123", "-3", True),
        ("10 - 3", "-3", False),  # no minus sign of 3
        ("10 -3", "-3", True),
        ("-.5", "-0.5", True),
        ("1,234,567.50", "1234567.5", True),
        ("1,2345", "12345", False),  # no thousands
        ("The answer is 1/5", "1", False),
        ("The answer is 3 / 5", "3", False),
        ("The answer is 3^2", "3", False),
        ("The answer is 1/2", "1/2", True),
        ("18", "$18.00", True),
        ("18", "180", False),
        ("  Blue   whale. ", "blue whale", True),
        ("I think so. Answer: **Paris**.", "Paris", True),
        ('Answer: "Paris"', "Paris", True),
        ("Paris or London", "Paris", False),
        ("Answer:", "", False),
        ("", "", False),
        ("", "5", False),
        ("no number here", "5", False),
    ],
)
def test_exact_finds_the_final_answer_and_compares_numbers_by_value(response: str, answer: str, right: bool) -> None:
    assert exact(response, answer) == right


@pytest.mark.parametrize(
    ("content", "answer", "right"),
    [
        ("18", "18", True),
        ("18.0", "18", True),
        ("\\$18", "18", True),
        ("18.", "$18$", True),
        ("1,234", "1234", True),
        ("\\frac{1}{2}", "0.5", True),
        ("\\dfrac12", "1/2", True),
        ("x=5", "5", True),
        ("2x+1", "1+2x", True),
        ("(x+1)^2", "x^2+2x+1", True),
        ("\\{2,1\\}", "\\{1,2\\}", True),
        ("(2,1)", "(1,2)", False),
        ("\\sqrt{8}", "2\\sqrt{2}", True),
        ("\\text{Paris}", "\\text{Paris}", True),
        ("5", "\\boxed{5}", True),
        ("27", "72", False),
        ("10^{10000}+1", "10^{10000}", False),
        ("", "", False),
        ("", "5", False),
    ],
)
def test_boxed_compares_mathematics_not_texts(content: str, answer: str, right: bool) -> None:
    assert boxed(f"so it is \\boxed{{{content}}}.", answer) == right


def test_an_answer_without_a_box_is_wrong() -> None:
    assert boxed("The answer is 18", "18") == 0.0


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{a \\} b", r"a \\"),
        (r"\boxed {7}", "7"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"{ \boxed{5}", "5"),
        (r"} \boxed{5} }", "5"),
        (r"\boxed{ { 5 }", None),
        (r"\boxed{5\}", None),
        (r"\boxed 5", None),
        ("\\boxed", None),
        ("\\", None),
        ("", None),
    ],
)
def test_the_last_balanced_box_counts(text: str, content: str | None) -> None:
    assert last_box(text) == content


@pytest.mark.parametrize("text", ["\\boxed{" * 100_000, "{" * 300_000, "\\boxed{" + "}" * 300_000, "\\boxed" + " " * 300_000])
def test_finding_a_box_takes_one_pass_over_any_text(text: str) -> None:
    begin = time.process_time()
    last_box(text)
    assert time.process_time() - begin < 2.0, "a second pass for each box would take hours"


@pytest.mark.parametrize(
    ("response", "formed"),
    [
        ("<think>6 * 3 = 18</think> \\boxed{18}", 1.0),
        ("\n <think>\nlong\n</think>\nSo it is \\boxed{\\frac{1}{2}}, done.\n", 1.0),
        ("\\boxed{18}", 0.0),
        ("<think>6 * 3</think> 18", 0.0),
        ("<think>6 * 3 is \\boxed{18}</think>", 0.0),
        ("<think> \n</think> \\boxed{18}", 0.0),
        ("<think>6 * 3 \\boxed{18}", 0.0),
        ("</think> <think> \\boxed{18}", 0.0),
        ("Well: <think>6 * 3</think> \\boxed{18}", 0.0),
        ("<think>6 * 3</think> <think>no</think> \\boxed{18}", 0.0),
        ("<think>6 * 3</think> \\boxed{ }", 0.0),
        ("<think>6 * 3</think> \\boxed{18", 0.0),
        ("", 0.0),
    ],
)
def test_format_wants_a_thought_and_then_a_box(response: str, formed: float) -> None:
    assert format(response, "18") == {"format": formed}


@pytest.mark.parametrize(
    "text",
    [
        "answer " * 50_000,
        "answer" + " " * 300_000,
        "The answer is " + "$ " * 150_000,
        "1,234 " * 50_000,
        "The answer is " + "1 234 " * 50_000,
    ]
    + ["<a " * 100_000, "<think>" * 50_000, "\\frac{" * 50_000, "½" * 100_000, "**" * 150_000, "\\boxed{1}, " * 50_000, "((" * 150_000],
    ids=lambda text: text[:20],
)
def test_reading_an_answer_takes_a_bounded_number_of_passes_over_any_text(text: str) -> None:
    begin = time.process_time()
    exact(text, "5")
    boxed(text, "5")
    assert time.process_time() - begin < 4.0, "a second pass for each word would take hours"


@pytest.mark.parametrize(
    ("response", "form", "right"),
    [
        (r"2+4</think>\boxed{6}", 1.0, 1.0),
        (r"<think>2+4</think>\boxed{6}", 0.0, 1.0),  # opened twice
        (r"2+4 so \boxed{6}", 0.0, 0.0),  # the thought is never closed
        (r"\boxed{6}</think>", 0.0, 0.0),
    ],
)
def test_where_the_prompt_opens_the_thought_a_response_begins_inside_it(response: str, form: float, right: float) -> None:
    assert format(response, "6", prompt_opens_think=True) == {"format": form}
    assert boxed(response, "6", prompt_opens_think=True) == exact(response, "6", prompt_opens_think=True) == right
    assert format(r"2+4</think>\boxed{6}", "6") == {"format": 0.0}
