"""The metrics of a step's rollouts, worked out by hand for three prompts."""

from dataclasses import replace

import pytest

from tests.support.examples import group
from uec.algorithm.advantage import group as group_advantages
from uec.algorithm.difficulty import outcome
from uec.algorithm.retention import retain
from uec.config.schema import Config
from uec.tracking.metrics import describe
from uec.tracking.step import engine_metrics, rollout_metrics
from uec.types import EngineUse, Kind, Outcome, PromptRollouts, RolloutTime, StepRollouts, TrainingSample


def at(made: list[TrainingSample], temperature: float, version: int = 1) -> list[TrainingSample]:
    return [replace(sample, temperature=temperature, version=version) for sample in made]


SOLVED = PromptRollouts(at(group([1, 0], truncated=[False, True]), 1.0), None, difficult=False)
EXPLORED = PromptRollouts(at(group([0, 0]), 1.0), at(group([0, 0, 1, 0], Kind.EXPLORATION), 1.2), difficult=True)
HOPELESS = PromptRollouts(at(group([0, 0]), 1.0), at(group([0, 0, 0, 0], Kind.EXPLORATION), 1.4, version=0), difficult=True)
PROMPTS = [SOLVED, EXPLORED, HOPELESS]


def metrics(prompts: list[PromptRollouts], used: list[PromptRollouts]) -> dict[str, float]:
    time = RolloutTime(clock=2.0, generate=1.25, explore=0.5, reward=0.25, busy=1.75, engines=(EngineUse(1.75, 70),))
    rolled = StepRollouts(prompts, exploring=True, time=time)
    return rollout_metrics(rolled, retain(used, Config(), group_advantages), version=1, solved_at=0.01)


def test_the_metrics_of_three_prompts() -> None:
    found = metrics(PROMPTS, PROMPTS)
    # 6 regular and 8 exploration responses of 5 tokens; kept: both of the first prompt, the success of the second's exploration
    assert found == pytest.approx(
        {
            "time/generate_s": 1.75, "time/explore_s": 0.5, "time/reward_s": 0.25, "explore/active": 1,
            "rollout/engine_tokens_per_s_min": 40, "rollout/engine_tokens_per_s_max": 40,
            "rollout/tokens": 70, "rollout/regular_tokens": 30, "rollout/exploration_tokens": 40, "rollout/tokens_per_s": 35,
            "rollout/response_len_mean": 5, "rollout/truncated_frac": 1 / 6, "rollout/prompts": 3, "rollout/version_lag_max": 1,
            "reward/mean": 1 / 6, "reward/accuracy_mean": 1 / 6, "reward/error_frac": 0, "reward/timeout_frac": 0,
            "reward/zero_std_frac": 2 / 3, "explore/difficult_frac": 2 / 3, "explore/groups": 2, "explore/solved_frac": 1 / 2,
            "explore/temperature": 1.3, "retain/kept_frac": 3 / 14, "retain/regular": 2, "retain/exploration": 1,
            "retain/overlong_dropped": 0,
        }
    )  # fmt: skip
    assert all(describe(key) for key in found)


def test_replaced_prompts_count_in_what_was_generated_and_not_in_what_was_kept() -> None:
    found = metrics(PROMPTS, [SOLVED])
    assert (found["rollout/prompts"], found["rollout/tokens"], found["retain/kept_frac"]) == (3, 70, 2 / 14)
    assert (found["retain/regular"], found["retain/exploration"]) == (2, 0)


def test_a_step_of_which_nothing_can_be_used_has_its_metrics_all_the_same() -> None:
    found = metrics([HOPELESS], [])
    assert found["retain/kept_frac"] == 0 and found["explore/solved_frac"] == 0


def test_without_exploration_its_means_are_left_out() -> None:
    found = metrics([SOLVED], [SOLVED])
    assert found["explore/groups"] == 0
    assert "explore/solved_frac" not in found and "explore/temperature" not in found


def test_each_engine_has_a_rate_where_they_are_few_and_one_without_work_has_none() -> None:
    few = engine_metrics([EngineUse(2.0, 100), EngineUse(0.0, 0), EngineUse(1.0, 60)])
    ends = {"rollout/engine_tokens_per_s_min": 50, "rollout/engine_tokens_per_s_max": 60}
    assert few == ends | {"rollout/engine_0_tokens_per_s": 50, "rollout/engine_2_tokens_per_s": 60}
    assert engine_metrics([EngineUse(2.0, 100), EngineUse(1.0, 60)] * 5) == ends
    assert engine_metrics([EngineUse(0.0, 0)]) == {}
    assert all(describe(key) for key in few)


def test_an_outcome_counts_the_right_ones_by_accuracy_over_all_rounds() -> None:
    made = [replace(sample, prompt=9) for sample in group([1.0, 0.3, 0.0, 0.1])]
    assert outcome(made, solved_at=0.2) == Outcome(prompt=9, kind=Kind.REGULAR, n=4, right=2, mean_accuracy=pytest.approx(0.35))
