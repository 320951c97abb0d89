"""The rare-mode Countdown task and its reward function."""

import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uec.rewards.reward_function import load_reward
from uec.tasks.countdown.data import (
    ALL_OPERATIONS,
    PLUS_MINUS,
    Problem,
    apply,
    draw,
    problems,
    random_steps,
    reachable_by_plus_minus,
    write_jsonl,
    write_steps,
)
from uec.tasks.countdown.reward import score

RIGHT = "8 * 7 = 56 , 56 - 3 = 53"


def accuracy(response: str, answer: str = "53", numbers: tuple[int, ...] = (3, 8, 7)) -> float:
    return score(response, answer, numbers=list(numbers), kind="mul3")["accuracy"]


def test_a_right_chain_is_rewarded_with_and_without_the_mode_token_and_spaces() -> None:
    assert accuracy(RIGHT) == 1
    assert accuracy(f"? {RIGHT}") == 1
    assert accuracy("8*7=56,56-3=53") == 1
    assert accuracy("?8*7=56,56-3=53") == 1
    assert accuracy(f"  {RIGHT}\n") == 1


def test_results_of_both_branches_of_a_tree_can_be_used() -> None:
    assert accuracy("1 + 2 = 3 , 3 + 4 = 7 , 7 * 3 = 21", "21", (1, 2, 3, 4)) == 1


def test_a_value_that_occurs_twice_can_be_used_twice_but_not_three_times() -> None:
    assert accuracy("5 + 5 = 10 , 10 - 5 = 5", "5", (5, 5, 5)) == 1
    assert accuracy("5 + 5 = 10 , 10 - 5 = 5", "5", (5, 5, 4)) == 0


@pytest.mark.parametrize(
    "response",
    [
        "8 * 7 = 55 , 55 - 2 = 53",  # arithmetic, and a number that is not there
        "8 * 7 = 57 , 57 - 4 = 53",
        "8 * 7 = 56 , 56 - 3 = 52",  # wrong last result
        "8 * 7 = 56",  # 3 is left over
        "8 * 7 = 56 , 56 - 8 = 48",  # 8 used twice
        "8 * 7 = 56 , 56 - 3 = 53 , 53 + 0 = 53",  # 0 is not there
        "50 + 3 = 53",  # 50 is not there
        "53",
        "? ? 8 * 7 = 56 , 56 - 3 = 53",
        "8 * 7 = 56 , 56 - 3 = 53 ?",
        "8 * 7 = 56 , 56 - 3 = 53 ,",
        ", 8 * 7 = 56 , 56 - 3 = 53",
        "8 * 7 = 56 ; 56 - 3 = 53",
        "8 * 7 = 5 6 , 56 - 3 = 53",  # spaces do not join digits
        "08 * 7 = 56 , 56 - 3 = 53",
        "8 * 7 = 56 , 56 - 3 = 53.0",
        "8 * 7 = 56 , 56 - 3 = ५३",  # 53 in Devanagari digits, which int() would take
        "8 * 7 = 56 , 56 + -3 = 53",
        "8 x 7 = 56 , 56 - 3 = 53",
        "8 * 7 = 56 56 - 3 = 53",
        "__import__('os').abort()",
        "9" * 10_000,
        "",
        "?",
        ",",
        "\x00",
    ],
)
def test_anything_else_gets_nothing(response: str) -> None:
    assert accuracy(response) == 0


def test_values_stay_within_0_and_99() -> None:
    assert (apply(10, "*", 10), apply(99, "+", 1), apply(3, "-", 4), apply(9, "*", 11)) == (None, None, None, 99)
    assert accuracy("10 * 10 = 100 , 100 - 1 = 99", "99", (10, 10, 1)) == 0
    assert accuracy("3 - 8 = -5 , 7 - -5 = 12", "12", (3, 8, 7)) == 0


@given(st.text(alphabet="0123456789+-*=,;:? x\n٣", max_size=40))
def test_no_text_makes_the_grader_fail(response: str) -> None:
    assert accuracy(response) in (0.0, 1.0)


@given(st.integers(0, 2**32), st.sampled_from(["pm3", "pm4", "mul3", "mul4"]))
def test_every_drawn_solution_is_graded_as_right(seed: int, kind: str) -> None:
    problem, steps = draw(random.Random(seed), kind)
    assert accuracy(write_steps(steps), str(problem.target), problem.numbers) == 1
    assert 1 <= problem.target <= 80 and all(1 <= number <= 10 for number in problem.numbers)
    assert (problem.target in reachable_by_plus_minus(problem.numbers)) == (kind[:2] == "pm")
    assert len(problem.numbers) == int(kind[-1])


def test_what_plus_and_minus_reach_is_known() -> None:
    # 9 - 5 - 2 = 2, 9 - 5 + 2 = 6, 9 + 5 - 2 = 12, 9 + 5 + 2 = 16; the others are negative
    assert reachable_by_plus_minus((2, 5, 9)) == {2, 6, 12, 16}


def test_steps_that_would_leave_the_range_are_abandoned() -> None:
    # 10 * 10 is out of range whatever comes first
    assert random_steps(random.Random(0), (10, 10, 10), {"*": 1}) is None
    assert random_steps(random.Random(0), (10, 10, 10), PLUS_MINUS) is not None
    assert random_steps(random.Random(0), (2, 3, 1), ALL_OPERATIONS) is not None


def test_a_prompt_reads_as_in_the_documentation() -> None:
    assert Problem((3, 8, 7), 45, "mul3").prompt == "3 8 7 : 45 ="


def test_problems_that_differ_in_order_are_the_same_problem() -> None:
    assert Problem((3, 8, 7), 45, "mul3").key == Problem((8, 7, 3), 45, "mul3").key != Problem((3, 8, 7), 44, "mul3").key


def test_generation_is_seeded_disjoint_and_in_the_stated_shares() -> None:
    held_out = problems(7, 500, avoid=set())
    keys = {problem.key for problem in held_out}
    train = problems(8, 1500, avoid=keys)
    assert problems(7, 500, avoid=set()) == held_out
    assert len(keys) == 500 and len({problem.key for problem in train}) == 1500
    assert not keys & {problem.key for problem in train}
    shares = {kind: sum(problem.kind == kind for problem in train) / 1500 for kind in ("mul3", "pm4", "pm3")}
    # 0.4, 0.6 * 0.6 and 0.6 * 0.4, within four standard errors of 1500 draws
    assert abs(shares["mul3"] - 0.40) < 0.05 and abs(shares["pm4"] - 0.36) < 0.05 and abs(shares["pm3"] - 0.24) < 0.045


def test_asking_for_more_problems_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="no new one of kind pm3"):
        problems(0, 4000, avoid=set())


def test_the_written_rows_hold_what_the_grader_needs(tmp_path) -> None:
    write_jsonl(tmp_path / "x" / "rows.jsonl", [Problem((3, 8, 7), 53, "mul3")])
    row = json.loads((tmp_path / "x" / "rows.jsonl").read_text())
    assert row == {"prompt": "3 8 7 : 53 =", "answer": "53", "numbers": [3, 8, 7], "kind": "mul3"}
    answer = row.pop("answer")
    assert score(RIGHT, answer, **row) == {"accuracy": 1.0}


def test_the_configs_reward_name_finds_the_grader(make_config) -> None:
    grader = load_reward(make_config().reward)
    assert grader(RIGHT, "53", {"numbers": [3, 8, 7], "prompt": "", "kind": ""}) == {"accuracy": 1.0}


def test_the_shipped_problems_are_solvable_and_no_held_out_one_is_trained_on(project) -> None:
    folder = project / "assets/countdown/data"
    rows = {name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()] for name in ("train", "eval")}
    keys = {name: {(tuple(sorted(row["numbers"])), row["answer"]) for row in rows[name]} for name in rows}
    assert len(rows["train"]) == len(keys["train"]) == 2048
    assert len(rows["eval"]) == len(keys["eval"]) == 512
    assert not keys["train"] & keys["eval"]
    for row in rows["train"] + rows["eval"]:
        assert row["prompt"] == f"{' '.join(map(str, row['numbers']))} : {row['answer']} ="
        assert re.fullmatch("pm3|pm4|mul3", row["kind"])
        assert (int(row["answer"]) in reachable_by_plus_minus(tuple(row["numbers"]))) == row["kind"].startswith("pm")
