"""Classification of prompts and what is remembered of them."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.workers.difficulty import DifficultyActor
from tests.support.examples import sample
from uec.algorithm.difficulty import PromptHistory, PromptRecord, classify, is_difficult
from uec.config.schema import Config
from uec.types import Kind, Outcome, ScheduleState, Verdict

NOW = ScheduleState(0.5, exploring=True)


def outcome(prompt: int, kind: Kind, accuracies: list[float]) -> Outcome:
    return Outcome(prompt, kind, len(accuracies), sum(a >= 0.01 for a in accuracies), sum(accuracies) / len(accuracies))


def regular(prompt: int, accuracies: list[float]) -> Outcome:
    return outcome(prompt, Kind.REGULAR, accuracies)


def explored(prompt: int, accuracies: list[float]) -> Outcome:
    return outcome(prompt, Kind.EXPLORATION, accuracies)


def config(**exploration) -> Config:
    cfg = Config()
    for name, value in exploration.items():
        setattr(cfg.exploration, name, value)
    return cfg


def test_a_prompt_without_a_right_response_is_explored_with_the_configured_settings() -> None:
    verdict = classify(regular(3, [0, 0, 0, 0]), PromptHistory(), config(n=16, temperature=1.3), NOW)
    assert verdict == Verdict(difficult=True, n=16, temperature=1.3)


def test_one_right_response_makes_a_prompt_easy() -> None:
    verdict = classify(regular(3, [0, 0, 0, 1]), PromptHistory(), config(), NOW)
    assert not verdict.difficult and verdict.n == 0


def test_the_boundary_belongs_to_the_solved() -> None:
    assert not sample(0.0099).right(solved_at=0.01)
    assert sample(0.01).right(solved_at=0.01)


@pytest.mark.parametrize(
    ("max_solve_rate", "difficult"),
    [
        (0.0, [True, False, False, False]),  # the paper: none of the 8 is right
        (1 / 8, [True, True, False, False]),  # 1/G: one may be; 1 <= 1/8 * 8 = 1
        (0.3, [True, True, True, False]),  # .3 * 8 = 2.4: two may be, three may not
    ],
)
def test_a_prompt_is_difficult_up_to_a_share_of_right_responses(max_solve_rate: float, difficult: list[bool]) -> None:
    assert [is_difficult(right, 8, max_solve_rate) for right in range(4)] == difficult


@pytest.mark.parametrize("n", range(2, 130))
def test_one_right_of_g_is_one_gth_whatever_floats_make_of_it(n: int) -> None:
    assert is_difficult(1, n, 1 / n) and not is_difficult(2, n, 1 / n)  # 1 / 49 * 49 is 0.9999999999999999


def test_a_nearly_unsolved_prompt_is_explored_where_the_config_says_so() -> None:
    cfg = config(n=16)
    cfg.difficulty.max_solve_rate = 0.25
    assert classify(regular(3, [1, 0, 0, 0]), PromptHistory(), cfg, NOW) == Verdict(difficult=True, n=16, temperature=1.2)
    assert not classify(regular(3, [1, 1, 0, 0]), PromptHistory(), cfg, NOW).difficult


def test_a_prompt_is_called_difficult_but_not_explored_once_exploration_has_ended() -> None:
    verdict = classify(regular(3, [0, 0]), PromptHistory(), config(), ScheduleState(0.9, exploring=False))
    assert verdict.difficult and verdict.n == 0


def test_the_temperature_rises_with_the_visits_at_which_the_prompt_was_difficult() -> None:
    history, cfg = PromptHistory(), config(schedule="failures", temperature_end=1.3, temperature_step=0.05)
    visits = [[0, 0], [1, 0], [0, 0], [0, 0], [0, 0]]
    temperatures = [classify(regular(3, accuracies), history, cfg, NOW).temperature for accuracies in visits]
    # 1.2 at the first failure; solved at the second visit, which gets the regular temperature; then the second to fourth failures
    assert temperatures == pytest.approx([1.2, 1.0, 1.25, 1.3, 1.3])
    assert classify(regular(4, [0, 0]), history, cfg, NOW).temperature == 1.2  # of another prompt


def test_a_prompt_is_called_difficult_but_not_explored_where_exploration_is_off() -> None:
    verdict = classify(regular(3, [0, 0]), PromptHistory(), config(enabled=False), NOW)
    assert verdict.difficult and verdict.n == 0


def test_an_unsolved_exploration_group_is_not_difficult_again() -> None:
    history = PromptHistory()
    verdict = classify(explored(3, [0] * 16), history, config(), NOW)
    assert not verdict.difficult and verdict.n == 0
    assert history.records[3].responses == 16


def test_an_evaluation_does_not_enter_the_history() -> None:
    history = PromptHistory()
    with pytest.raises(ValueError, match="evaluation"):
        classify(Outcome(3, Kind.EVAL, 8, 4, 0.5), history, config(), NOW)
    assert history.records == {}


def test_the_history_counts_regular_and_exploration_responses() -> None:
    history, cfg = PromptHistory(), config()
    classify(regular(7, [0] * 8), history, cfg, NOW)
    classify(explored(7, [1, 1] + [0] * 14), history, cfg, NOW)
    classify(regular(2, [1] * 8), history, cfg, NOW)
    classify(regular(7, [1, 0, 0, 0, 0, 0, 0, 0]), history, cfg, NOW)
    # prompt 7: 8 + 16 + 8 responses, 0 + 2 + 1 right; visited as the 1st and the 3rd group, difficult at the 1st
    assert history.records[7] == PromptRecord(visits=2, difficult=1, responses=32, accuracy=3.0, last_visit=3)
    assert history.records[7].solve_rate == 3 / 32
    assert history.records[2] == PromptRecord(visits=1, difficult=0, responses=8, accuracy=8.0, last_visit=2)


def test_a_prompt_never_answered_has_solve_rate_zero() -> None:
    assert PromptRecord().solve_rate == 0.0


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=20), min_size=1, max_size=30))
def test_the_running_solve_rate_is_the_share_of_all_responses(groups: list[list[int]]) -> None:
    history = PromptHistory()
    for accuracies in groups:
        classify(regular(0, [float(a) for a in accuracies]), history, config(), NOW)
    share = Fraction(sum(map(sum, groups)), sum(map(len, groups)))
    assert history.records[0].solve_rate == pytest.approx(float(share), abs=1e-12)


def test_the_actor_goes_on_from_its_state_through_json() -> None:
    first = DifficultyActor(config())
    first.classify([regular(1, [0, 0, 0]), explored(1, [0, 1 / 3, 0]), regular(2, [1, 0, 0])], NOW)
    second = DifficultyActor(config())
    second.load(json.loads(json.dumps(first.state())))
    for actor in (first, second):
        verdicts = actor.classify([regular(2, [0, 0]), regular(1, [0, 1])], NOW)
        assert [v.difficult for v in verdicts] == [True, False]
    assert second.state() == first.state()
    assert second.history.records[1].last_visit == 4
