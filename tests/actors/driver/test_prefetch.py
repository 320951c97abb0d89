"""Rollouts ahead of learning: how far, in which order, and what happens at a checkpoint, a signal and a failure. Plain asyncio."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from actors.driver.prefetch import RolloutPrefetcher
from actors.driver.schedule import next_checkpoint
from uec.config.schema import CheckpointConfig, Config, TrainConfig
from uec.types import RolloutTime, StepRollouts


@dataclass
class Engine:
    """Samples a step in `turns` turns of the loop; writes down what it began, with the version of its weights."""

    turns: int
    version: int = 0  # steps learned from
    began: list[tuple[int, int]] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def sample(self, step: int) -> StepRollouts:
        self.began.append((step, self.version))
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        self.running -= 1
        return StepRollouts([], True, RolloutTime(float(step), 0.0, 0.0, 0.0, 0.0, ()))


def run(staleness: int, steps: int, sampling: int, learning: int, last: Callable[[int], int] = lambda done: 99) -> Engine:
    """A run of so many steps; `last` says up to which step may be sampled, given how many are done."""
    engine = Engine(sampling)

    async def main() -> None:
        ahead = RolloutPrefetcher(engine.sample, staleness, lambda: min(steps, last(engine.version)))
        for step in range(1, steps + 1):
            assert (await ahead.take(step)).time.clock == step
            for _ in range(learning):
                await asyncio.sleep(0)
            engine.version += 1
        assert len(ahead) == 0

    asyncio.run(main())
    return engine


def test_without_staleness_a_step_is_sampled_when_it_is_taken_by_the_newest_weights():
    assert run(0, 4, sampling=3, learning=5).began == [(1, 0), (2, 1), (3, 2), (4, 3)]


def test_with_staleness_1_the_next_step_is_sampled_while_this_one_is_learned_from():
    assert run(1, 5, sampling=3, learning=5).began == [(1, 0), (2, 0), (3, 1), (4, 2), (5, 3)]


@pytest.mark.parametrize("staleness", [0, 1, 2, 3])
@pytest.mark.parametrize(("sampling", "learning"), [(1, 20), (20, 1), (4, 4), (0, 0)])
def test_no_rollouts_are_older_than_allowed_and_steps_are_sampled_in_order(staleness, sampling, learning):
    engine = run(staleness, 12, sampling, learning)
    assert [step for step, _ in engine.began] == list(range(1, 13))
    assert all(step - 1 - version <= staleness for step, version in engine.began)
    assert engine.most == 1


def test_fast_engines_use_all_the_staleness_there_is():
    engine = run(3, 12, sampling=1, learning=20)
    assert max(step - 1 - version for step, version in engine.began) == 3


def test_nothing_is_sampled_beyond_a_checkpoint_before_it_is_written():
    cfg = Config(train=TrainConfig(steps=10), checkpoint=CheckpointConfig(every=4))
    assert [next_checkpoint(done, cfg) for done in range(10)] == [4, 4, 4, 4, 8, 8, 8, 8, 10, 10]
    cfg.checkpoint.every = 0
    assert next_checkpoint(3, cfg) == 10
    four = Config(train=TrainConfig(steps=10), checkpoint=CheckpointConfig(every=4))
    engine = run(2, 10, sampling=1, learning=9, last=lambda done: next_checkpoint(done, four))
    assert (5, 4) in engine.began and (9, 8) in engine.began  # each by the weights of the checkpoint before it


def test_a_run_that_is_to_end_learns_from_what_was_begun_and_begins_no_more():
    engine, ended = Engine(1), False

    async def main() -> int:
        nonlocal ended
        ahead = RolloutPrefetcher(engine.sample, 2, lambda: 0 if ended else 99)
        await ahead.take(1)
        for _ in range(20):
            await asyncio.sleep(0)
        ended = True
        step = 1
        while len(ahead):
            step += 1
            await ahead.take(step)
            engine.version += 1
        return step

    assert asyncio.run(main()) == 3
    assert [step for step, _ in engine.began] == [1, 2, 3]


def test_what_made_sampling_fail_is_raised_when_the_step_is_taken_and_nothing_follows_it():
    begun = []

    async def sample(step: int) -> StepRollouts:
        begun.append(step)
        await asyncio.sleep(0)
        if step == 2:
            raise RuntimeError("the engine is gone")
        return StepRollouts([], True, RolloutTime(0.0, 0.0, 0.0, 0.0, 0.0, ()))

    async def main() -> None:
        ahead = RolloutPrefetcher(sample, 4, lambda: 99)
        await ahead.take(1)
        for _ in range(20):
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="the engine is gone"):
            await ahead.take(2)
        ahead.close()

    asyncio.run(main())
    assert begun == [1, 2]


def test_closing_gives_up_what_was_begun():
    async def main() -> None:
        engine = Engine(1000)
        ahead = RolloutPrefetcher(engine.sample, 1, lambda: 99)
        taking = asyncio.ensure_future(ahead.take(1))
        await asyncio.sleep(0)
        taking.cancel()
        ahead.close()
        assert len(ahead) == 0

    asyncio.run(main())
