"""Selective retention: hand-computed cases and properties."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import group, sample
from uec.algorithm.advantage import BUILTIN, Advantages, Rewards
from uec.algorithm.advantage import group as group_advantages
from uec.algorithm.retention import (
    advantages,
    balanced,
    keep_exploration,
    keep_regular,
    overlong_positive,
    retain,
)
from uec.config.schema import Config, ExplorationConfig, RetentionConfig
from uec.types import Kind, PromptRollouts, TrainingSample

ONE_OF_TWENTY = [1.0] + [0.0] * 19  # A = 4.2485 for the success, -.2236 for the others (worked out in test_advantage.py)


def config(
    group: str = "own",
    keep: str = "positive",
    threshold: float = 1.0,
    min_abs: float | None = 0.0,
    drop: bool = True,
    subset: int | None = None,
) -> Config:
    return Config(
        exploration=ExplorationConfig(group=group, keep=keep, threshold=threshold),
        retention=RetentionConfig(min_abs_advantage=min_abs, drop_overlong_positive=drop, subset=subset),
    )


def exploration_group(rewards: list[float], truncated: list[bool] | None = None) -> list[TrainingSample]:
    return group(rewards, Kind.EXPLORATION, truncated)


def sampled(regular: list[TrainingSample], exploration: list[TrainingSample] | None = None) -> PromptRollouts:
    return PromptRollouts(regular, exploration, difficult=exploration is not None)


def kept(regular: list[TrainingSample], exploration: list[TrainingSample] | None, cfg: Config) -> PromptRollouts:
    """What is kept of one prompt, the only one of its step, with GRPO's advantages."""
    [retained] = retain([sampled(regular, exploration)], cfg, group_advantages)
    return retained


def counts(retained: PromptRollouts) -> tuple[int, int, int]:
    """Kept regular ones, kept exploration ones, and overlong ones that were dropped."""
    regular = sum(t.kind is Kind.REGULAR for t in retained.kept)
    return regular, len(retained.kept) - regular, retained.overlong_dropped


def of_one(values: list[float]) -> Advantages:
    [advantages_G] = group_advantages([np.array(values, dtype=np.float64)])
    return advantages_G


def test_regular_responses_with_any_advantage_are_kept() -> None:
    retained = kept(group([1, 0, 0, 0]), None, config())
    assert [round(t.advantage, 4) for t in retained.kept] == [1.5, -0.5, -0.5, -0.5]
    assert counts(retained) == (4, 0, 0)


def test_the_released_threshold_drops_small_regular_advantages() -> None:
    # [0, .5, .52, 1]: mean .505, squares .255025 + .000025 + .000225 + .245025 = .5003, / 3 = .16677, std .40837
    # A = -1.2366, -.0122, .0367, 1.2121; |A| > .05 keeps the outer two
    retained = kept(group([0, 0.5, 0.52, 1]), None, config(min_abs=0.05))
    assert [round(t.advantage, 4) for t in retained.kept] == [-1.2366, 1.2121]


def test_without_a_threshold_regular_responses_without_advantage_are_kept_too() -> None:
    retained = kept(group([0.3] * 8), None, config(min_abs=None))
    assert [t.advantage for t in retained.kept] == [0.0] * 8


def test_a_group_without_spread_keeps_nothing() -> None:
    assert kept(group([0.3] * 8), None, config()).kept == []
    assert sampled(group([0.3] * 8)).uninformative and not sampled(group([0.3] * 7 + [0.4])).uninformative


def test_a_prompt_is_informative_if_only_its_exploration_is_right() -> None:
    assert not sampled(group([0, 0]), exploration_group([0, 1])).uninformative
    assert sampled(group([0, 0]), exploration_group([0, 0])).uninformative


def test_a_prompt_whose_responses_differ_in_length_alone_is_uninformative() -> None:
    # All wrong, one punished for its length by -.5, and all right, one punished: there is nothing to learn about correctness.
    for accuracy in (0.0, 1.0):
        rewards = [accuracy, accuracy - 0.5, accuracy]
        assert sampled([sample(reward, accuracy=accuracy) for reward in rewards]).uninformative
    assert not sampled([sample(0.5, accuracy=1.0), sample(0.5, accuracy=0.0)]).uninformative


@pytest.mark.parametrize("keep", ["positive", "informative"])
def test_a_wrong_response_with_a_bonus_is_kept_only_where_the_config_follows_the_papers_letter(keep: str) -> None:
    # 0 of 16 right, 2 with a format bonus of .1: mean .0125, std .0342, A = 2.5617 for the two
    explored = [sample(0.1 if i < 2 else 0.0, kind=Kind.EXPLORATION, accuracy=0.0, slot=i) for i in range(16)]
    cfg = config(keep=keep)
    assert kept(group([0] * 8), explored, cfg).kept == []
    cfg.retention.positive = "rewarded"
    assert [round(one.advantage, 3) for one in kept(group([0] * 8), explored, cfg).kept] == [2.562] * 2


def test_wrong_regular_responses_and_strong_failures_of_exploration_are_kept_all_the_same() -> None:
    explored = exploration_group([0.0] + [1.0] * 19)  # A = -4.2485 for the failure
    retained = kept(group([1, 0, 0, 0]), explored, config(keep="informative"))
    assert [(one.kind, one.reward) for one in retained.kept if one.reward == 0] == [(Kind.REGULAR, 0)] * 3 + [(Kind.EXPLORATION, 0)]


def test_exploration_keeps_only_what_is_better_than_its_group() -> None:
    retained = kept(group([0] * 8), exploration_group(ONE_OF_TWENTY), config())
    assert [t.kind for t in retained.kept] == [Kind.EXPLORATION]
    assert retained.kept[0].advantage == pytest.approx(4.2485, abs=1e-4)
    assert retained.kept[0].reward == 1.0
    assert counts(retained)[:2] == (0, 1)


def test_the_two_sided_filter_with_threshold_one_keeps_only_the_success() -> None:
    assert keep_exploration(of_one(ONE_OF_TWENTY), ExplorationConfig(keep="informative", threshold=1.0)).sum() == 1


def test_the_two_sided_filter_keeps_strong_failures_too() -> None:
    # 19 right of 20 is the mirror image: A = .2236 for each success, -4.2485 for the failure
    mask_H = keep_exploration(of_one([0.0] + [1.0] * 19), ExplorationConfig(keep="informative", threshold=1.0))
    assert mask_H.tolist() == [True] + [False] * 19


def test_a_joint_group_gives_regular_failures_a_negative_advantage() -> None:
    # 0 0 | 0 1 are four rewards with one success: A = -.5, -.5 | -.5, 1.5; positive-only drops the exploration failure
    retained = kept(group([0, 0]), exploration_group([0, 1]), config(group="joint"))
    assert [(t.kind, round(t.advantage, 4)) for t in retained.kept] == [
        (Kind.REGULAR, -0.5),
        (Kind.REGULAR, -0.5),
        (Kind.EXPLORATION, 1.5),
    ]


def test_a_joint_group_without_exploration_is_normalised_within_g() -> None:
    assert kept(group([1, 0, 0, 0]), None, config(group="joint")) == kept(group([1, 0, 0, 0]), None, config())


def test_overlong_positives_are_dropped_and_counted_and_overlong_negatives_stay() -> None:
    truncated = [True, False, True, False]
    retained = kept(group([1, 1, 0, 0], truncated=truncated), None, config())
    assert [t.slot for t in retained.kept] == [1, 2, 3]
    assert counts(retained) == (3, 0, 1)
    kept_all = kept(group([1, 1, 0, 0], truncated=truncated), None, config(drop=False))
    assert counts(kept_all) == (4, 0, 0)


def test_an_overlong_exploration_success_is_dropped() -> None:
    retained = kept(group([0] * 8), exploration_group([1, 0, 0, 0], [True, False, False, False]), config())
    assert retained.kept == [] and retained.overlong_dropped == 1


def test_an_overlong_response_that_would_not_be_kept_anyway_is_not_counted() -> None:
    # [0, .5, .52, 1] again: .52 has A = .0367, below the threshold
    assert kept(group([0, 0.5, 0.52, 1], truncated=[False, False, True, False]), None, config(min_abs=0.05)).overlong_dropped == 0


def test_all_responses_truncated_without_reward_is_a_normal_event() -> None:
    retained = kept(group([0] * 4, truncated=[True] * 4), exploration_group([0] * 6, [True] * 6), config())
    assert retained.kept == [] and retained.overlong_dropped == 0


def test_difficulty_reads_accuracy_but_advantages_read_the_reward() -> None:
    # a bonus for format spreads an all-wrong group: it is trained on
    assert len(kept(group([0.1, 0, 0, 0]), None, config()).kept) == 4


def test_overlong_mask_needs_all_three() -> None:
    advantages_N = np.array([1.0, 1.0, -1.0, 0.0])
    truncated_N = np.array([True, False, True, True])
    assert overlong_positive(advantages_N, truncated_N, RetentionConfig()).tolist() == [True, False, False, False]
    assert not overlong_positive(advantages_N, truncated_N, RetentionConfig(drop_overlong_positive=False)).any()


# --- several prompts


def test_a_step_without_prompts_keeps_nothing_and_asks_no_estimator() -> None:
    # All were uninformative under dynamic sampling: the mean over no response would be NaN.
    def of_ones_own(rewards: list[Rewards]) -> list[Advantages]:
        pytest.fail("asked about no response")

    for estimator in (*BUILTIN.values(), of_ones_own):
        assert retain([], config(), estimator) == []


@pytest.mark.parametrize("which", ["own", "joint"])
def test_the_estimator_sees_each_group_and_never_an_empty_one(which: str) -> None:
    seen: list[list[float]] = []

    def estimator(rewards: list[Rewards]) -> list[Advantages]:
        seen.extend(r.tolist() for r in rewards)
        return [r.copy() for r in rewards]

    prompts = [sampled(group([1, 0])), sampled(group([0, 0]), exploration_group([0, 1, 0])), sampled(group([0, 1]))]
    found = advantages(prompts, config(which), estimator)
    assert seen == ([[1, 0], [0, 0], [0, 1, 0], [0, 1]] if which == "own" else [[1, 0], [0, 0, 0, 1, 0], [0, 1]])
    assert [(a.tolist(), b.tolist()) for a, b in found] == [([1, 0], []), ([0, 0], [0, 1, 0]), ([0, 1], [])]


def test_batch_advantages_run_over_the_groups_of_all_prompts() -> None:
    # [1, 0] and [1, 1]: .5, -1.5, .5, .5 (worked out in test_advantage.py)
    found = retain([sampled(group([1, 0])), sampled(group([1, 1]))], config(), BUILTIN["batch"])
    assert [[round(t.advantage, 4) for t in each.kept] for each in found] == [[0.5, -1.5], [0.5, 0.5]]


# --- a balanced subset


@pytest.mark.parametrize(
    ("rewards", "n", "slots"),
    [
        ([1, 1, 1, 0, 0, 0], 4, [0, 1, 3, 4]),  # enough of both: two of each, the first ones
        ([0, 1, 1, 1, 1, 1], 4, [0, 1, 2, 3]),  # one wrong: three right
        ([1, 0, 0, 0, 0, 0], 4, [0, 1, 2, 3]),  # one right: three wrong
        ([1, 1, 0, 0, 0], 3, [0, 2, 3]),  # an odd number: the odd one is wrong
        ([1, 0, 1], 4, [0, 1, 2]),  # fewer than asked for: all of them
        ([0, 0, 0, 0], 2, [0, 1]),
        ([1, 1, 1, 1], 2, [0, 1]),
    ],
)
def test_a_balanced_subset_is_half_right_and_half_wrong_as_far_as_there_are(rewards: list[float], n: int, slots: list[int]) -> None:
    assert [t.slot for t in balanced(group(rewards), n, solved_at=0.01)] == slots


def test_a_subset_keeps_the_advantages_of_all_samples_and_does_not_touch_exploration() -> None:
    # six of eight right: centred .25 and -.75; with n = 4 there are the two wrong and the first two right ones
    [retained] = retain([sampled(group([1] * 6 + [0] * 2), exploration_group([1, 0, 0, 0, 0, 0]))], config(subset=4), BUILTIN["centred"])
    assert [t.advantage for t in retained.kept[:4]] == [0.25, 0.25, -0.75, -0.75]
    assert counts(retained)[:2] == (4, 1)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=20), st.integers(2, 12))
def test_a_balanced_subset_is_as_large_and_as_even_as_can_be(rewards: list[float], n: int) -> None:
    chosen = balanced(group(rewards), n, solved_at=0.01)
    rights, wrongs = sum(t.reward > 0 for t in chosen), sum(t.reward == 0 for t in chosen)
    assert len(chosen) == min(n, len(rewards))
    assert rights >= min(n // 2, rewards.count(1.0)) and wrongs >= min(n // 2, rewards.count(0.0))


# --- properties

rewards = st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=2, max_size=20)


@given(
    rewards,
    st.none() | rewards,
    st.sampled_from(["own", "joint"]),
    st.sampled_from(["positive", "informative"]),
    st.sampled_from([0.0, 0.05]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.booleans(),
    st.sampled_from(sorted(BUILTIN)),
    st.data(),
)
def test_retention_never_keeps_a_zero_advantage(regular, explored, which, keep, min_abs, threshold, drop, name, data) -> None:
    estimator = BUILTIN[name]
    cfg = config(which, keep, threshold, min_abs, drop)
    flags = data.draw(st.lists(st.booleans(), min_size=len(regular), max_size=len(regular)))
    exploration = None if explored is None else exploration_group(explored, [flags[0]] * len(explored))
    [retained] = retain([sampled(group(regular, truncated=flags), exploration)], cfg, estimator)
    assert all(t.advantage != 0 and np.isfinite(t.advantage) for t in retained.kept)
    assert not (drop and any(t.truncated and t.advantage > 0 for t in retained.kept))
    for kind in (Kind.REGULAR, Kind.EXPLORATION):  # each once, in the group's order
        slots = [t.slot for t in retained.kept if t.kind == kind]
        assert all(a < b for a, b in pairwise(slots))


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_keeps_more(advantages, a, b) -> None:
    low, high = sorted((a, b))
    array = np.array(advantages)
    kept_high, kept_low = (keep_regular(array, RetentionConfig(min_abs_advantage=bound)) for bound in (high, low))
    assert not (kept_high & ~kept_low).any()
