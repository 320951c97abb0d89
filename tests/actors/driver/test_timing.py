"""Where the rollouts' time goes, on a clock that the test turns."""

from dataclasses import dataclass

from actors.driver.timing import RolloutTimer
from uec.types import EngineUse, Kind, Request


@dataclass(eq=False)
class Engine:
    name: str


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(*kinds: Kind) -> list[Request]:
    return [Request(number, number, 8, 1.0, kind) for number, kind in enumerate(kinds)]


REGULAR, EXPLORATION, EVAL = asked(Kind.REGULAR, Kind.REGULAR), asked(Kind.EXPLORATION), asked(Kind.EVAL)


def test_each_second_counts_once_as_generation_exploration_or_reward():
    clock, engine = Clock(), Engine("rollout-0")
    timer = RolloutTimer([engine], clock)
    before = timer.time()
    clock.now = 101  # nothing was asked
    timer.group_opened(Kind.REGULAR)
    timer.sent(engine, REGULAR)
    clock.now = 103  # 2 s of generation
    timer.group_opened(Kind.EXPLORATION)
    timer.sent(engine, EXPLORATION)
    clock.now = 104  # 1 s of both, which is generation
    timer.answered(engine, REGULAR)
    timer.group_closed(Kind.REGULAR)
    clock.now = 108  # 4 s of exploration alone
    timer.answered(engine, EXPLORATION)
    clock.now = 108.5  # .5 s of grading
    timer.graded(engine, 140)
    timer.group_closed(Kind.EXPLORATION)
    clock.now = 110  # nothing
    spent = timer.time() - before
    assert (spent.clock, spent.generate, spent.explore, spent.reward, spent.busy) == (10, 3, 4, 0.5, 7)
    assert spent.engines == (EngineUse(7, 140),)
    assert spent.engines[0].tokens_per_s == 20


def test_a_message_of_both_kinds_is_generation_until_its_last_response():
    clock, engine = Clock(), Engine("rollout-0")
    timer = RolloutTimer([engine], clock)
    both = [*EXPLORATION, *REGULAR]
    timer.sent(engine, both)
    clock.now = 105
    timer.answered(engine, both)
    assert (timer.time().generate, timer.time().explore) == (5, 0)


def test_an_evaluation_keeps_engines_busy_and_is_no_rollout():
    clock, engine = Clock(), Engine("rollout-0")
    timer = RolloutTimer([engine], clock)
    timer.group_opened(Kind.EVAL)
    timer.sent(engine, EVAL)
    clock.now = 103
    timer.answered(engine, EVAL)
    clock.now = 104  # grading it
    spent = timer.time()
    assert (spent.generate, spent.explore, spent.reward, spent.busy) == (0, 0, 0, 3)


def test_engines_are_clocked_by_themselves_and_what_goes_on_counts_up_to_now():
    clock, one, other = Clock(), Engine("rollout-0"), Engine("rollout-1")
    timer = RolloutTimer([one, other], clock)
    timer.sent(one, REGULAR)
    timer.sent(one, EXPLORATION)
    clock.now = 102
    timer.sent(other, REGULAR)
    timer.answered(one, REGULAR)
    clock.now = 103
    timer.answered(one, EXPLORATION)
    clock.now = 106
    assert [use.seconds for use in timer.time().engines] == [3, 4]
    assert timer.time().busy == timer.time().generate == 6
