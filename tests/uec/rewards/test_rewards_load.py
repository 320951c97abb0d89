"""From `reward.fn` and `reward.weights` to a reward: loading, merging, weighing, and the messages of what is refused."""

from pathlib import Path

import numpy as np
import pytest

from uec.config.schema import RewardConfig
from uec.errors import BadInput, RunFailed
from uec.rewards.process import Grade
from uec.rewards.reward_function import GradingError, absolute_names, extractor, load_reward, read_parts, refuse_errors, weigh

USER_FILE = """
from neighbour import length

LIMIT = 3

def score(response: str, answer: str, **row) -> float:
    return float(response == answer)

def short(response, answer, *, level=1, **row):
    return {"short": length(response) <= LIMIT, "level": level / 10}

def no_row(response, answer):
    return 1.0

def one_argument(response, **row):
    return 1.0

async def later(response, answer, **row):
    return 1.0
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("def length(text):\n    return len(text)\n")
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    return path


@pytest.mark.parametrize("name", ["exact", "boxed", "countdown"])
def test_built_in_graders_load_by_name(name: str) -> None:
    reward = load_reward(RewardConfig(fn=name))
    row = {"numbers": [2, 3]}
    assert reward("2 * 3 = 6", "6", row)["accuracy"] == (0.0 if name == "boxed" else 1.0)


def test_a_function_of_a_file_gets_the_row_and_may_import_its_neighbours(user_file: Path) -> None:
    reward = load_reward(RewardConfig(fn=[f"{user_file}:score", f"{user_file}:short"], weights={"accuracy": 0.75, "short": 0.25}))
    parts = reward("four", "four", {"level": 5, "other": None})
    assert parts == {"accuracy": 1.0, "short": 0.0, "level": 0.5}
    assert reward.reward(parts) == 0.75
    assert reward.reward(reward("no", "four", {})) == 0.25


def test_a_function_of_a_module_is_found_in_the_working_folder(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = user_file.parent / "ourgraders"
    package.mkdir()
    (package / "strict.py").write_text("def judge(response, answer, **row):\n    return response == answer\n")
    monkeypatch.chdir(user_file.parent)
    assert load_reward(RewardConfig(fn="ourgraders.strict:judge"))("a", "a", {}) == {"accuracy": 1.0}


def test_two_functions_of_one_file_share_what_it_loaded(tmp_path: Path) -> None:
    path = tmp_path / "shared.py"
    path.write_text("CALLS = []\ndef a(response, answer, **row):\n    CALLS.append(1)\n    return 1.0\n")
    path.write_text(path.read_text() + "def b(response, answer, **row):\n    return {'calls': len(CALLS) / 10}\n")
    assert load_reward(RewardConfig(fn=[f"{path}:a", f"{path}:b"]))("", "", {}) == {"accuracy": 1.0, "calls": 0.1}


def test_a_column_named_like_the_first_two_parameters_is_not_passed_on(user_file: Path) -> None:
    reward = load_reward(RewardConfig(fn=f"{user_file}:score"))
    assert reward("a", "a", {"response": "another", "answer": "raw", "question": "?"}) == {"accuracy": 1.0}


def test_a_file_is_named_absolutely_for_processes_that_run_elsewhere(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(user_file.parent)
    assert absolute_names("mine.py:score") == [f"{user_file}:score"]
    assert absolute_names(["exact", "package.module:name"]) == ["exact", "package.module:name"]


def test_a_required_column_that_is_missing_is_reported_before_the_start(user_file: Path) -> None:
    load_reward(RewardConfig(fn="countdown")).check_columns({"numbers": [1, 2]})
    load_reward(RewardConfig(fn=f"{user_file}:short")).check_columns({})  # its column has a default
    with pytest.raises(BadInput, match="countdown needs the data column numbers; beside prompt and answer the data has level"):
        load_reward(RewardConfig(fn="countdown")).check_columns({"level": 1})


def refusal(**reward) -> str:
    with pytest.raises(BadInput) as caught:
        load_reward(RewardConfig(**reward))
    return str(caught.value)


def test_a_missing_file_is_refused_by_its_path(tmp_path: Path) -> None:
    assert f"there is no file {tmp_path}/none.py" in refusal(fn=f"{tmp_path}/none.py:score")


def test_a_missing_function_is_refused_with_those_that_are_there(user_file: Path) -> None:
    message = refusal(fn=f"{user_file}:scores")
    assert "no function scores" in message and "score, short, no_row" in message
    assert "length" not in message, "imported functions are not listed"


def test_an_import_error_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import os\nimport no_such_package\n")
    message = refusal(fn=f"{path}:score")
    assert "ModuleNotFoundError: No module named 'no_such_package'" in message and f"{path}:2" in message
    path.write_text("import sys\nsys.exit(0)\n")
    assert "SystemExit: 0" in refusal(fn=f"{path}:score") and f"{path}:2" in refusal(fn=f"{path}:score")
    path.write_text("x = 1\n\ndef score(:\n")
    assert "SyntaxError" in refusal(fn=f"{path}:score") and f"{path}:3" in refusal(fn=f"{path}:score")


def test_anything_but_a_function_of_response_answer_and_row_is_refused(user_file: Path) -> None:
    assert "LIMIT" in refusal(fn=f"{user_file}:LIMIT") and "is int, not a function" in refusal(fn=f"{user_file}:LIMIT")
    assert "takes no **row" in refusal(fn=f"{user_file}:no_row")
    assert "cannot be called" in refusal(fn=f"{user_file}:one_argument")
    assert "async" in refusal(fn=f"{user_file}:later")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    assert "did you mean exact?" in refusal(fn="exakt")
    assert "there is no module no_such_module" in refusal(fn="no_such_module:score")
    assert "no reward function" in refusal(fn=[])
    assert "no reward function" in refusal(fn=3)
    assert "named twice" in refusal(fn=["exact", "exact"])


def test_invalid_weights_are_refused() -> None:
    assert "reward.weights.accuracy: -1.0" in refusal(weights={"accuracy": -1.0})
    assert "reward.weights.accuracy" in refusal(weights={"accuracy": float("nan")})
    assert "no weight above 0" in refusal(weights={"accuracy": 0.0})
    assert "no weight above 0" in refusal(weights={})
    assert "no part format" in refusal(fn="exact", weights={"accuracy": 0.9, "format": 0.1})
    assert "returns no accuracy" in refusal(fn="format", weights={"format": 1.0})


def test_parts_of_exact_and_format_make_one_reward() -> None:
    reward = load_reward(RewardConfig(fn=["boxed", "format"], weights={"accuracy": 0.9, "format": 0.1}))
    rewards = [
        reward.reward(reward(text, "18", {})) for text in ("<think>a</think>\\boxed{18}", "\\boxed{18}", "<think>a</think>\\boxed{1}", "no")
    ]
    assert rewards == pytest.approx([1.0, 0.9, 0.1, 0.0])


def test_two_functions_with_the_same_part_are_an_error_that_names_both() -> None:
    with pytest.raises(GradingError, match="exact and boxed both return the part accuracy"):
        load_reward(RewardConfig(fn=["exact", "boxed"]))("5", "5", {})


def test_a_weighted_part_that_was_not_returned_is_an_error_that_names_it() -> None:
    with pytest.raises(GradingError, match="the part format, which mine did not return; it returned accuracy"):
        weigh("mine", {"accuracy": 1.0}, {"accuracy": 0.9, "format": 0.1})
    assert weigh("mine", {"accuracy": 1.0}, {"accuracy": 0.9, "format": 0.0}) == 0.9
    with pytest.raises(GradingError, match="no part accuracy"):
        weigh("mine", {"format": 1.0}, {"format": 1.0})


@pytest.mark.parametrize(
    ("returned", "parts"),
    [
        (1, {"accuracy": 1.0}),
        (True, {"accuracy": 1.0}),
        (np.float32(0.5), {"accuracy": 0.5}),
        (np.bool_(True), {"accuracy": 1.0}),
        (np.array(0.25), {"accuracy": 0.25}),
        ({"accuracy": 0, "format": 0.5}, {"accuracy": 0.0, "format": 0.5}),
        (1.0000000000000002, {"accuracy": 1.0000000000000002}),
    ],
)
def test_numbers_bools_and_dicts_of_them_are_read(returned: object, parts: dict[str, float]) -> None:
    assert read_parts("mine", returned) == parts


@pytest.mark.parametrize(
    "returned",
    [None, "abc", "1.0", float("nan"), float("inf"), [], [1.0], {}, {"accuracy": None}, {1: 1.0}, {"": 1.0}, 1j, 1.5, -0.1, 10**1000]
    + [10**10000, np.array([1.0, 0.0]), {str(i): 1.0 for i in range(100)}, object()],
    ids=lambda value: str(type(value).__name__),
)
def test_anything_but_a_number_from_0_to_1_is_an_error_that_names_the_function(returned: object) -> None:
    with pytest.raises(GradingError, match="^mine returned"):
        read_parts("mine", returned)


def graded(errors: list[str | None]) -> list[Grade]:
    return [Grade(0.0, 0.0, {}, error, timed_out=error == "late") for error in errors]


def test_a_step_with_too_many_failed_gradings_ends_the_run_naming_the_first() -> None:
    reward = RewardConfig(fn="mine.py:score", max_error_frac=0.2)
    refuse_errors(graded([None, None, None, "late", None]), reward)  # 1 of 5 is not more than .2
    refuse_errors([], reward)
    with pytest.raises(RunFailed, match=r"(?s)2 of 5 gradings .*1 of them by timeout.*max_error_frac=0.2.*The first: boom"):
        refuse_errors(graded([None, "boom", None, "late", None]), reward)


def test_a_policy_that_writes_answers_too_long_to_grade_does_not_end_the_run_but_a_late_function_of_the_users_does() -> None:
    refuse_errors(graded(["late"] * 5), RewardConfig(fn=["boxed", "format"], max_error_frac=0.2))
    with pytest.raises(RunFailed, match=r"2 of 5 gradings .*\(0 of them by timeout"):
        refuse_errors(graded(["late", "boom", "boom", "late", None]), RewardConfig(fn="boxed", max_error_frac=0.2))
    with pytest.raises(RunFailed, match="5 of 5 gradings"):
        refuse_errors(graded(["late"] * 5), RewardConfig(fn=["boxed", "mine.py:score"], max_error_frac=0.2))


def test_an_unfinished_step_is_refused_only_when_the_rest_cannot_save_it() -> None:
    reward = RewardConfig(max_error_frac=0.2)
    refuse_errors(graded(["boom", "boom"]), reward, expected=10)
    with pytest.raises(RunFailed, match="3 of 10"):
        refuse_errors(graded(["boom"] * 3), reward, expected=10)


def test_no_failed_grading_is_allowed_at_0_and_all_are_at_1() -> None:
    with pytest.raises(RunFailed):
        refuse_errors(graded([None] * 99 + ["boom"]), RewardConfig(max_error_frac=0.0))
    refuse_errors(graded(["boom"] * 3), RewardConfig(max_error_frac=1.0))


FOREIGN = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    assert not kwargs and data_source in ("", "gsm8k") and extra_info in (None, {"index": 3})
    return 1.0 if solution_str == ground_truth else 0.0

def scored(data_source, solution_str, ground_truth, extra_info):
    return {"score": float(solution_str == ground_truth), "pred": solution_str}

def swapped(answer, response, *, level=1, **row):
    return {"accuracy": response == "r" and answer == "a", "level": level / 10}

def levelled(solution_str, ground_truth, level):
    return level / 10

def of_trl(prompts, completions, answer, **kwargs):
    return 1.0

def reference_first(ground_truth, completion, **row):
    return 1.0

def own_names(text, truth, **row):
    return text == "r" and truth == "a"
"""


def test_a_compute_score_of_another_framework_gets_its_parameters_by_name(tmp_path: Path) -> None:
    (tmp_path / "foreign.py").write_text(FOREIGN)
    for name in ("compute_score", "scored"):
        reward = load_reward(RewardConfig(fn=f"{tmp_path}/foreign.py:{name}"))
        reward.check_columns({})
        assert reward("6", "6", {"ground_truth": "7", "question": "?"}) == {"accuracy": 1.0}
        assert reward("7", "6", {"ground_truth": "7", "data_source": "gsm8k", "extra_info": {"index": 3}}) == {"accuracy": 0.0}
    levelled = load_reward(RewardConfig(fn=f"{tmp_path}/foreign.py:levelled"))
    assert levelled("6", "6", {"level": 3}) == {"accuracy": 0.3}
    with pytest.raises(BadInput, match="levelled needs the data column level"):
        levelled.check_columns({})


def test_response_and_answer_are_passed_by_name_in_whatever_order_they_stand(tmp_path: Path) -> None:
    (tmp_path / "foreign.py").write_text(FOREIGN)
    assert load_reward(RewardConfig(fn=f"{tmp_path}/foreign.py:swapped"))("r", "a", {"level": 4}) == {"accuracy": 1.0, "level": 0.4}
    assert load_reward(RewardConfig(fn=f"{tmp_path}/foreign.py:own_names"))("r", "a", {}) == {"accuracy": 1.0}


def test_a_function_whose_first_parameters_are_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign.py").write_text(FOREIGN)
    assert "are prompts and completions, which are no response and answer" in refusal(fn=f"{tmp_path}/foreign.py:of_trl")
    assert "are ground_truth and completion" in refusal(fn=f"{tmp_path}/foreign.py:reference_first")


def test_a_list_of_accepted_answers_is_met_by_one_and_reaches_a_users_function(user_file: Path) -> None:
    exact, boxed = load_reward(RewardConfig(fn="exact")), load_reward(RewardConfig(fn="boxed"))
    answers = ["1/2", "half"]
    assert [exact(text, answers, {})["accuracy"] for text in ("The answer is 0.5", "Answer: Half", "Answer: 5")] == [1.0, 1.0, 0.0]
    assert [boxed(text, answers, {})["accuracy"] for text in (r"\boxed{0.5}", r"\boxed{\text{half}}", r"\boxed{5}")] == [1.0, 1.0, 0.0]
    assert exact("5", [], {}) == {"accuracy": 0.0}
    assert extractor("exact")("The answer is 0.50", answers) == "0.5" and extractor("boxed")(r"\boxed{0.50}", answers) == "0.5"
    assert load_reward(RewardConfig(fn=f"{user_file}:score"))("a", ["a", "b"], {}) == {"accuracy": 0.0}, "it compares with the list"
