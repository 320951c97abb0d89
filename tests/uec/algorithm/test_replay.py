"""The replay store: admission, order, draws and an exact state."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import sample, trajectory
from uec.algorithm.advantage import group as group_advantages
from uec.algorithm.replay import Entry, ReplayStore, admits, is_due
from uec.config.schema import Config, ReplayConfig, RetentionConfig
from uec.types import Kind


def entries(first: int, last: int) -> list[Entry]:
    return [Entry(trajectory(i), advantage=1.0 + i, step=i) for i in range(first, last)]


def filled(capacity: int, count: int, seed: int = 0) -> ReplayStore:
    store = ReplayStore(capacity, seed)
    for entry in entries(0, count):
        store.add(entry)
    return store


def draw(store: ReplayStore, n: int, step: int = 100, **replay) -> list[Entry]:
    return store.draw(n, step, ReplayConfig(**replay))


def prompts(found: list[Entry]) -> list[int]:
    return [entry.trajectory.prompt for entry in found]


def replay_config(positive: str = "right", **replay) -> Config:
    return Config(replay=ReplayConfig(**replay), retention=RetentionConfig(positive=positive))


def test_only_advantages_above_the_threshold_are_admitted() -> None:
    # G' = 20 with one success: A = 4.2485 and -.2236; exactly A_0 is not above it
    admitted = [admits(sample(1, advantage=a), replay_config(min_advantage=1.0)) for a in (4.2485, -0.2236, 1.0, 1.0001)]
    assert admitted == [True, False, False, True]


def test_the_source_filter_lets_in_exploration_only() -> None:
    kinds = (Kind.REGULAR, Kind.EXPLORATION)
    assert [admits(sample(1, kind=k, advantage=2), replay_config(source="all")) for k in kinds] == [True, True]
    assert [admits(sample(1, kind=k, advantage=2), replay_config(source="exploration")) for k in kinds] == [False, True]


@pytest.mark.parametrize(("admit", "admitted"), [("positive", [0, 1, 2, 0, 0, 0]), ("both", [0, 1, 2, 2, 1, 0])])
def test_a_group_of_five_enters_as_often_as_the_side_of_its_advantages_lets_it(admit: str, admitted: list[int]) -> None:
    # Right of 5, unbiased std, A of the right and of the wrong: 1: .4472, 1.789, -.447; 2: .5477, 1.095, -.730; 3 and 4 mirror them.
    counts = []
    for right in range(6):
        rewards = [1.0] * right + [0.0] * (5 - right)
        [advantages] = group_advantages([np.array(rewards)])
        pairs = zip(rewards, advantages.tolist(), strict=True)
        counts.append(sum(admits(sample(reward, advantage=a), replay_config(admit=admit)) for reward, a in pairs))
    assert counts == admitted


def test_a_wrong_response_with_a_bonus_is_stored_only_where_the_config_follows_the_papers_letter() -> None:
    # 2 of 16 have a format bonus of .1: mean .0125, std .0342, A = .0875 / .0342 = 2.5617
    bonus = sample(0.1, accuracy=0.0, advantage=2.5617)
    assert not admits(bonus, replay_config())
    assert admits(bonus, replay_config(positive="rewarded"))
    wrong = sample(0.0, advantage=-1.8)  # a failure teaches what to avoid: that it is wrong is no reason to refuse it
    assert admits(wrong, replay_config(admit="both"))


def test_draws_by_advantage_count_failures_by_their_size() -> None:
    # A = -2 and 1: 4000 draws of one, 2/3 of them the failure, with std sqrt(4000 * 2/9) = 30
    store = filled(2, 0)
    for i, advantage in enumerate((-2.0, 1.0)):
        store.add(Entry(trajectory(i), advantage=advantage, step=0))
    failures = sum(prompts(draw(store, 1, draw="advantage")) == [0] for _ in range(4000))
    assert abs(failures - 4000 * 2 / 3) < 5 * 30


def test_nothing_is_admitted_or_due_where_replay_is_off() -> None:
    assert not admits(sample(1, advantage=2), replay_config(enabled=False))
    assert not is_due(5, 1000, ReplayConfig(enabled=False))


def test_a_replay_update_is_due_every_five_steps_once_enough_is_stored() -> None:
    assert [step for step in range(1, 16) if is_due(step, 16, ReplayConfig(every=5, min_rows=16))] == [5, 10, 15]
    assert not is_due(5, 15, ReplayConfig(every=5, min_rows=16))


def test_capacity_and_rows_default_to_the_batch() -> None:
    cfg = Config()  # B = 32, G = 8
    assert (cfg.replay_capacity(), cfg.replay_rows()) == (512, 256)
    cfg.replay.capacity, cfg.replay.rows = 100, 7
    assert (cfg.replay_capacity(), cfg.replay_rows()) == (100, 7)


@given(st.integers(1, 20), st.integers(0, 50))
def test_the_newest_stay_in_order(size: int, count: int) -> None:
    assert prompts(list(filled(size, count).entries)) == list(range(count))[-size:]


@given(st.integers(0, 20), st.integers(0, 30), st.integers(0, 100), st.sampled_from(["uniform", "advantage", "newest"]))
def test_a_draw_is_without_replacement_and_leaves_the_store_as_it_is(count: int, n: int, seed: int, how: str) -> None:
    store = filled(20, count, seed)
    drawn = prompts(draw(store, n, draw=how))
    assert len(drawn) == len(set(drawn)) == min(n, count)
    assert set(drawn) <= set(range(count)) and len(store) == count


def test_draws_are_uniform() -> None:
    # 4000 draws of 2 out of 8: each entry is expected 1000 times, with std sqrt(4000 * 1/4 * 3/4) = 27
    store = filled(8, 8)
    counts = Counter(p for _ in range(4000) for p in prompts(draw(store, 2)))
    assert len(counts) == 8 and all(abs(c - 1000) < 5 * 27 for c in counts.values())


def test_the_newest_are_drawn_where_the_config_says_so() -> None:
    assert prompts(draw(filled(8, 8), 3, draw="newest")) == [5, 6, 7]
    assert prompts(draw(filled(8, 2), 3, draw="newest")) == [0, 1]


def test_draws_by_advantage_are_in_proportion_to_it() -> None:
    # Entry i has A = 1 + i. Draws of one out of three: shares 1/6, 2/6, 3/6 of 6000, with std below sqrt(6000 / 4) = 39
    store = filled(3, 3)
    counts = Counter(p for _ in range(6000) for p in prompts(draw(store, 1, draw="advantage")))
    assert all(abs(counts[i] - 1000 * (1 + i)) < 5 * 39 for i in range(3))
    assert sorted(prompts(draw(store, 3, draw="advantage"))) == [0, 1, 2]


@pytest.mark.parametrize("how", ["uniform", "advantage", "newest"])
def test_what_is_too_old_is_not_drawn_and_may_leave_nothing(how: str) -> None:
    # Entry i was admitted at step i. At step 10 those of at most 4 steps are 6 and 7; at step 11 only 7; at step 12 none.
    store = filled(8, 8)
    drawn = [sorted(prompts(draw(store, 5, step, draw=how, max_age=4))) for step in (10, 11, 12)]
    assert drawn == [[6, 7], [7], []]
    assert len(store) == 8


@pytest.mark.parametrize("how", ["uniform", "advantage", "newest"])
def test_nothing_is_drawn_from_an_empty_store(how: str) -> None:
    assert draw(filled(8, 0), 5, draw=how) == []


def test_the_seed_decides_the_draws() -> None:
    assert prompts(draw(filled(50, 50, seed=1), 10)) == prompts(draw(filled(50, 50, seed=1), 10))
    assert prompts(draw(filled(50, 50, seed=1), 10)) != prompts(draw(filled(50, 50, seed=2), 10))


@given(st.integers(0, 30), st.lists(st.integers(0, 10), max_size=5))
def test_a_store_goes_on_from_its_state_through_json(count: int, draws: list[int]) -> None:
    store = filled(16, count)
    for n in draws:
        draw(store, n)
    other = ReplayStore(16, seed=99)
    other.load(list(store.entries), json.loads(json.dumps(store.rng_state())))
    for each in (store, other):
        each.add(Entry(trajectory(77), 2.0, 5))
    assert prompts(draw(other, 5)) == prompts(draw(store, 5))
    assert prompts(draw(other, 5)) == prompts(draw(store, 5))


def test_a_saved_state_is_not_changed_by_later_draws() -> None:
    store = filled(16, 16)
    state = store.rng_state()
    before = json.dumps(state)
    draw(store, 5)
    assert json.dumps(state) == before


def test_a_smaller_capacity_keeps_the_newest_on_load() -> None:
    store = ReplayStore(3, seed=0)
    store.load(entries(0, 10), ReplayStore(3, 0).rng_state())
    assert prompts(list(store.entries)) == [7, 8, 9]


def test_a_store_without_room_cannot_be_made() -> None:
    with pytest.raises(ValueError):
        ReplayStore(-1, seed=0)
