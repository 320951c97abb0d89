"""The exploration temperature, how long a run explores, the rounds, and the state that a checkpoint keeps of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import group
from uec.algorithm.exploration import ExplorationSchedule, enough, exploration_temperature, round_sizes
from uec.config.schema import ExplorationConfig
from uec.types import Kind, ScheduleState

# --- temperature


def at(schedule: str, state: ScheduleState, failures: int = 1, begin: float = 1.2, end: float | None = 1.0, step: float = 0.05) -> float:
    exploration = ExplorationConfig(schedule=schedule, temperature=begin, temperature_end=end, temperature_step=step)
    return exploration_temperature(failures, state, exploration)


@pytest.mark.parametrize("done", [0.0, 0.5, 1.0])
def test_a_constant_temperature_stays(done: float) -> None:
    assert at("constant", ScheduleState(done, True, 3.0, 1.0), failures=9, end=None) == 1.2


@pytest.mark.parametrize(("done", "temperature"), [(0.0, 1.2), (0.5, 1.1), (1.0, 1.0)])
def test_a_linear_temperature_moves_with_the_run(done: float, temperature: float) -> None:
    # 1.2 + (1.0 - 1.2) * done
    assert at("linear", ScheduleState(done, True)) == pytest.approx(temperature)


@pytest.mark.parametrize(("failures", "temperature"), [(1, 1.2), (3, 1.3), (5, 1.4), (50, 1.4)])
def test_a_temperature_by_failures_rises_with_each_earlier_visit(failures: int, temperature: float) -> None:
    # 1.2 + .05 * (failures - 1), up to the end at 1.4: the first failure is that of this visit
    assert at("failures", ScheduleState(0.5, True), failures, end=1.4) == pytest.approx(temperature)


def test_a_temperature_by_failures_falls_where_its_end_is_below() -> None:
    assert at("failures", ScheduleState(0.5, True), failures=3, end=1.0) == pytest.approx(1.1)


def test_a_temperature_by_failures_may_end_where_it_begins() -> None:
    assert at("failures", ScheduleState(0.5, True), failures=3, end=1.2) == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("first", "now", "temperature"),
    [
        (None, None, 1.2),  # the first step
        (0.8, 0.8, 1.2),
        (0.8, 0.4, 1.2),  # fallen: no hotter than at the start
        (0.8, 1.2, 1.1),  # half way to twice the first
        (0.8, 1.6, 1.0),
        (0.8, 4.0, 1.0),
        (0.0, 1.0, 1.2),  # no measure
    ],
)
def test_a_temperature_by_entropy_falls_as_the_entropy_rises_to_twice_the_first(first, now, temperature: float) -> None:
    assert at("entropy", ScheduleState(0.9, True, now, first)) == pytest.approx(temperature)


@given(
    st.sampled_from(["constant", "linear", "failures", "entropy"]), st.floats(0, 1), st.integers(1, 100), st.none() | st.floats(0, 20),
    st.none() | st.floats(0, 20), st.floats(0.5, 2), st.floats(0.5, 2),
)  # fmt: skip
def test_a_temperature_stays_between_begin_and_end(schedule, done, failures, entropy, first, begin, end) -> None:
    found = at(schedule, ScheduleState(done, True, entropy, first), failures, begin, end)
    assert min(begin, end) - 1e-9 <= found <= max(begin, end) + 1e-9


# --- span


def explored_steps(until: float, steps: int) -> int:
    span = ExplorationSchedule(until, steps)
    return sum(span.exploring(done) for done in range(steps))


@pytest.mark.parametrize(("until", "steps", "explored"), [(1.0, 40, 40), (0.5, 40, 20), (0.3, 10, 3), (0.25, 10, 3), (0.001, 40, 1)])
def test_a_share_of_the_run_explores_its_first_steps(until: float, steps: int, explored: int) -> None:
    # a step explores if fewer than until * steps others came before it: of .25 * 10 = 2.5 the steps after 0, 1 and 2
    assert explored_steps(until, steps) == explored


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_share_is_not_rounded_up_by_floats(percent: int) -> None:
    assert explored_steps(percent / 100, 100) == percent  # 7 / 100 * 100 is 7.000000000000001


def steps_explored(shares: list[float]) -> int:
    """Steps that `auto` explores of a run with these difficult shares."""
    span, explored = ExplorationSchedule("auto", len(shares)), 0
    for done, share in enumerate(shares):
        explored += span.exploring(done)
        span.observe(share)
    return explored


def test_auto_ends_when_the_last_ten_steps_are_down_to_six_tenths_of_the_first_ten() -> None:
    # First ten .5, then .2: after 10 + k steps the last ten have the mean (.5 (10 - k) + .2 k) / 10 = .5 - .03 k, and .6 * .5 = .3 is
    # reached at k = 20/3, so at the 17th step; but `auto` waits for two whole windows, and decides after step 20
    assert steps_explored([0.5] * 10 + [0.2] * 30) == 20
    # First thirty .5: .5 - .03 k <= .3 at k = 7: decided after step 37, and step 38 explores no more
    assert steps_explored([0.5] * 30 + [0.2] * 30) == 37


def test_auto_ends_at_exactly_six_tenths_and_not_just_above() -> None:
    # halves and quarters have no rounding: the mean of the first ten .625, of the last ten .375 = .6 * .625
    assert steps_explored([0.625] * 10 + [0.375] * 20) == 20
    assert steps_explored([0.625] * 10 + [0.3751] * 20) == 30


def test_auto_explores_to_the_end_where_the_share_does_not_fall() -> None:
    assert steps_explored([0.5] * 100) == 100


def test_auto_does_not_begin_again() -> None:
    assert steps_explored([0.5] * 10 + [0.2] * 10 + [1.0] * 30) == 20


def test_a_span_goes_on_from_its_state_through_json() -> None:
    shares = [0.5] * 30 + [0.2] * 30
    for cut in (0, 5, 33, 50):
        first = ExplorationSchedule("auto", 60)
        for share in shares[:cut]:
            first.observe(share)
        second = ExplorationSchedule("auto", 60)
        second.load(json.loads(json.dumps(first.state())))
        explored = []
        for done in range(cut, 60):
            assert second.exploring(done) == first.exploring(done)
            explored.append(second.exploring(done))
            first.observe(shares[done])
            second.observe(shares[done])
        assert sum(explored) == max(0, 37 - cut)
        assert second.state() == first.state()


# --- entropy


def schedule(until: float | str = 1.0, steps: int = 4) -> ExplorationSchedule:
    return ExplorationSchedule(until, steps)


def test_a_schedule_tells_the_progress_and_the_change_of_entropy() -> None:
    mine = schedule(until=0.5)
    told, metrics = [], []
    for done, entropy in enumerate([2.0, None, 1.5, 1.75]):  # no update in the second step: nothing was kept
        mine.begin_step(done)
        told.append(mine.now)
        metrics.append({"explore/difficult_frac": 0.5} | ({} if entropy is None else {"entropy/regular": entropy}))
        mine.end_step(metrics[-1])
    expected = [(0.0, True), (0.25, True, 2.0, 2.0), (0.5, False, 2.0, 2.0), (0.75, False, 1.5, 2.0)]
    assert told == [ScheduleState(*one) for one in expected]
    assert [row.get("entropy/change") for row in metrics] == [None, None, -0.5, 0.25]


def test_a_schedule_goes_on_from_its_state_through_json() -> None:
    first = schedule(until="auto", steps=30)
    for done in range(19):
        first.begin_step(done)
        first.end_step({"explore/difficult_frac": 0.5 if done < 10 else 0.2, "entropy/regular": 2.0 - done / 100})
    second = schedule(until="auto", steps=30)
    second.load(json.loads(json.dumps(first.state())))
    for mine in (first, second):
        mine.begin_step(19)
        assert mine.now == ScheduleState(19 / 30, True, 2.0 - 18 / 100, 2.0)
        mine.end_step({"explore/difficult_frac": 0.2})
        mine.begin_step(20)
        assert not mine.now.exploring
    assert second.state() == first.state()


# --- rounds


@pytest.mark.parametrize(
    ("n", "rounds", "sizes"), [(20, 3, [7, 7, 6]), (20, 1, [20]), (20, 4, [5, 5, 5, 5]), (3, 3, [1, 1, 1]), (2, 5, [1, 1])]
)
def test_rounds_are_of_like_size_the_larger_ones_first_and_none_is_empty(n: int, rounds: int, sizes: list[int]) -> None:
    assert round_sizes(n, rounds) == sizes


@given(st.integers(1, 200), st.integers(1, 50))
def test_rounds_spend_exactly_what_there_is(n: int, rounds: int) -> None:
    sizes = round_sizes(n, rounds)
    assert sum(sizes) == n and len(sizes) == min(n, rounds)
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("rewards", "right", "is_balanced"),
    [
        ([0, 0, 0, 0], False, False),
        ([1, 0, 0, 0], True, False),  # one right of the two that half a round of four asks for
        ([1, 1, 0, 0], True, True),
        ([1, 1, 1, 0], True, False),
        ([1, 1, 1, 1], True, False),
    ],
)
def test_enough_is_one_right_or_half_a_round_of_each(rewards: list[float], right: bool, is_balanced: bool) -> None:
    made = group(rewards)
    assert enough(made, 4, "right", 0.01) is right
    assert enough(made, 4, "balanced", 0.01) is is_balanced


def test_a_later_round_counts_with_the_first_and_half_stays_half_a_round() -> None:
    both = [*group([1, 0, 0, 0]), *group([1, 0, 0, 0])]
    assert enough(both, 4, "balanced", 0.01)  # two right, six wrong; a half of eight would be four


def test_enough_reads_accuracy_against_the_bar_and_not_the_reward() -> None:
    made = group([0.5, 0.2, 0.2, 0.0], Kind.EXPLORATION)
    assert enough(made, 4, "right", 0.5) and not enough(made, 4, "right", 0.51)
