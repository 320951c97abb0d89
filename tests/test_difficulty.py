"""Classification of prompts and what is remembered of them."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.difficulty import DifficultyActor
from uec.algorithm.difficulty import PromptHistory, PromptRecord, classify, is_difficult
from uec.config import Config
from uec.types import Kind, Outcome, Verdict


def regular(prompt: int, accuracies: list[float]) -> Outcome:
    return Outcome(prompt, Kind.REGULAR, len(accuracies), sum(accuracies) / len(accuracies), max(accuracies))


def explored(prompt: int, accuracies: list[float]) -> Outcome:
    return Outcome(prompt, Kind.EXPLORATION, len(accuracies), sum(accuracies) / len(accuracies), max(accuracies))


def config(**exploration) -> Config:
    cfg = Config()
    for name, value in exploration.items():
        setattr(cfg.exploration, name, value)
    return cfg


def test_a_prompt_without_a_right_response_is_explored_with_the_configured_settings() -> None:
    verdict = classify(regular(3, [0, 0, 0, 0]), PromptHistory(), config(n=16, temperature=1.3))
    assert verdict == Verdict(difficult=True, n=16, temperature=1.3)


def test_one_right_response_makes_a_prompt_easy() -> None:
    verdict = classify(regular(3, [0, 0, 0, 1]), PromptHistory(), config())
    assert not verdict.difficult and verdict.n == 0


def test_the_boundary_belongs_to_the_solved() -> None:
    assert is_difficult(0.0099, solved_at=0.01)
    assert not is_difficult(0.01, solved_at=0.01)


def test_a_prompt_is_called_difficult_but_not_explored_where_exploration_is_off() -> None:
    verdict = classify(regular(3, [0, 0]), PromptHistory(), config(enabled=False))
    assert verdict.difficult and verdict.n == 0


def test_an_unsolved_exploration_group_is_not_difficult_again() -> None:
    history = PromptHistory()
    verdict = classify(explored(3, [0] * 16), history, config())
    assert not verdict.difficult and verdict.n == 0
    assert history.records[3].responses == 16


def test_an_evaluation_does_not_enter_the_history() -> None:
    history = PromptHistory()
    with pytest.raises(ValueError, match="evaluation"):
        classify(Outcome(3, Kind.EVAL, 8, 0.5, 1.0), history, config())
    assert history.records == {}


def test_the_history_counts_regular_and_exploration_responses() -> None:
    history, cfg = PromptHistory(), config()
    classify(regular(7, [0] * 8), history, cfg)
    classify(explored(7, [1, 1] + [0] * 14), history, cfg)
    classify(regular(2, [1] * 8), history, cfg)
    classify(regular(7, [1, 0, 0, 0, 0, 0, 0, 0]), history, cfg)
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
        classify(regular(0, [float(a) for a in accuracies]), history, config())
    share = Fraction(sum(map(sum, groups)), sum(map(len, groups)))
    assert history.records[0].solve_rate == pytest.approx(float(share), abs=1e-12)


def test_the_actor_goes_on_from_its_state_through_json() -> None:
    first = DifficultyActor(config())
    first.classify([regular(1, [0, 0, 0]), explored(1, [0, 1 / 3, 0]), regular(2, [1, 0, 0])])
    second = DifficultyActor(config())
    second.load(json.loads(json.dumps(first.state())))
    for actor in (first, second):
        verdicts = actor.classify([regular(2, [0, 0]), regular(1, [0, 1])])
        assert [v.difficult for v in verdicts] == [True, False]
    assert second.state() == first.state()
    assert second.history.records[1].last_visit == 4
