"""Groups stream: graded as they end, classified at their last reward, explored while others are still at work.

The engines and graders here are stand-ins that inject latencies and deaths; Ray, and everything between them, is real.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from actors.driver.actor_specs import supervise, training_actors
from actors.driver.controller import Controller
from actors.driver.rollout_log import RolloutLog
from actors.driver.rollouts import RolloutStream
from actors.driver.weight_sync import WeightSync
from actors.runtime.slots import ActorSlot
from actors.runtime.supervisor import Supervisor
from uec.config.schema import Config
from uec.data.dataset import Dataset
from uec.models.logprob_gap import Tolerance
from uec.run_folder import RunFolder
from uec.tracking.tracker import Tracker
from uec.types import Kind, Outcome, Prompt, Request, ScheduleState, TrainingSample, Trajectory, Verdict

pytestmark = pytest.mark.e2e
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import a test module

FAST, SLOW = 0, 1
PATIENCE_S = 8.0
DIE, LOSE = 2, 3


class LateEngine:
    """Injects latency: prompt SLOW waits until another was explored, or for PATIENCE_S.

    DIE kills the first process that it meets; the first process that meets LOSE never gives the second response.
    """

    def __init__(self, cfg: Config, rank: int) -> None:
        self.explored = asyncio.Event()

    async def start(self, prompts: object) -> None: ...

    async def generate(self, requests: list[Request]) -> AsyncIterator[list[Trajectory]]:
        marker = Path(os.environ["UEC_TEST_FOLDER"]) / "died"
        for request in sorted(requests, key=lambda request: request.prompt == SLOW):
            if request.prompt == DIE and not marker.exists():
                yield [_trajectory(request, 0)]  # half of the group is out when the process goes
                marker.touch()
                os._exit(7)
            if request.prompt == LOSE and not (marker.parent / "lost").exists():
                yield [_trajectory(request, 0)]
                (marker.parent / "lost").touch()
                await asyncio.Event().wait()
            if request.prompt == SLOW and request.kind is Kind.REGULAR:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.explored.wait(), PATIENCE_S)
            for index in range(request.n):
                yield [_trajectory(request, index)]
            if request.kind is Kind.EXPLORATION:
                self.explored.set()


class TimedGrader:
    """Grades every response as wrong, and says when it saw it."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self.seen: list[tuple[int, str, float]] = []

    async def start(self, prompts: object) -> None: ...

    async def grade(self, batch: list[Trajectory]) -> list[TrainingSample]:
        self.seen += [(one.prompt, one.kind.value, time.time()) for one in batch]
        return [_sample(slot, one) for slot, one in enumerate(batch)]

    async def order(self) -> list[tuple[int, str, float]]:
        return self.seen


class Judge:
    """Every regular group is difficult: G' = 2 at T = 1.2."""

    def __init__(self, cfg: Config) -> None: ...

    def classify(self, outcomes: list[Outcome], schedule: ScheduleState, call: int) -> list[Verdict]:
        return [Verdict(outcome.kind is Kind.REGULAR, 2, 1.2) for outcome in outcomes]


def _trajectory(request: Request, index: int) -> Trajectory:
    tokens = np.zeros(3, np.int32)
    return Trajectory(
        request.group, index, request.prompt, request.kind, request.temperature, tokens, tokens, np.zeros(3, np.float32), False, (0,)
    )


def _sample(slot: int, one: Trajectory) -> TrainingSample:
    return TrainingSample(one.prompt, slot, 3, 3, kind=one.kind, group=one.group, index=one.index, version=one.version)


@pytest.fixture
def staff(cluster: None, make_config, tmp_path: Path) -> Iterator[tuple[Supervisor, Config]]:
    """A Supervisor whose engine, grader and judge are stand-ins; learners and replay are not started."""
    cfg = make_config("rollout.n=2", "exploration.n=2", "train.prompts_per_step=2", "run.save_rollouts=false")
    supervisor = supervise(cfg, training_actors(cfg, "cpu"), tmp_path / "logs", Tracker([]))
    [engine], [grader], judge = supervisor.engines, supervisor.graders, supervisor.difficulty
    engine.spec = replace(engine.spec, actor=LateEngine, environment={"UEC_TEST_FOLDER": str(tmp_path)})
    grader.spec = replace(grader.spec, actor=TimedGrader)
    judge.spec = replace(judge.spec, actor=Judge)
    for number, slot in enumerate([engine, grader, judge]):
        slot.handle = supervisor._create(slot, f"{tmp_path.name}-{number}")
    yield supervisor, cfg
    for slot in (engine, grader, judge):
        ray.kill(slot.handle)


def _controller(supervisor: Supervisor, cfg: Config, tmp_path: Path) -> Controller:
    prompts = [Prompt(index, "", np.zeros(3, np.int32), "", {}) for index in range(3)]
    weights = WeightSync(cfg, supervisor, prompts, tolerance=Tolerance(1e-3, 1e-3))
    log = RolloutLog(RunFolder(tmp_path), supervisor, enabled=False)
    return Controller(cfg, supervisor, Dataset(prompts, [], 0, 0), weights, log, Tracker([]))


async def _explore_both(controller: Controller) -> None:
    barrier = asyncio.Barrier(2)
    await asyncio.gather(controller.sampler.prompt(FAST, barrier), controller.sampler.prompt(SLOW, barrier))


def _times(grader: ActorSlot) -> dict[tuple[int, str], float]:
    """When the last response of each prompt and kind was graded."""
    return {(prompt, kind): when for prompt, kind, when in ray.get(grader.handle.order.remote())}


def test_a_difficult_prompt_is_explored_while_another_prompt_is_still_generated(staff, tmp_path):
    supervisor, cfg = staff
    asyncio.run(_explore_both(_controller(supervisor, cfg, tmp_path)))
    graded = _times(supervisor.graders[0])
    assert graded[FAST, "exploration"] <= graded[SLOW, "regular"] < graded[SLOW, "exploration"]


def test_without_streaming_exploration_waits_for_every_regular_group(staff, tmp_path):
    supervisor, cfg = staff
    cfg.exploration.stream = False
    asyncio.run(_explore_both(_controller(supervisor, cfg, tmp_path)))
    graded = _times(supervisor.graders[0])
    assert graded[FAST, "regular"] < graded[SLOW, "regular"] < graded[FAST, "exploration"]


def test_a_group_of_an_engine_that_dies_is_issued_again_whole_and_counted_once(staff, tmp_path):
    supervisor, _ = staff

    async def main() -> tuple[list[TrainingSample], list[TrainingSample]]:
        stream = RolloutStream(supervisor)
        return await asyncio.gather(
            stream.sample(DIE, 3, 1.0, Kind.REGULAR),
            stream.sample(FAST, 2, 1.0, Kind.REGULAR),
        )

    dying, other = asyncio.run(main())
    assert [sample.index for sample in dying] == [0, 1, 2]
    assert [sample.index for sample in other] == [0, 1]
    assert supervisor.engines[0].restarts == 1
    assert supervisor.engines[0].outstanding == 0
    assert (tmp_path / "died").exists()


def test_a_response_that_never_comes_is_asked_for_again_within_the_timeout(staff, tmp_path):
    supervisor, cfg = staff
    cfg.rollout.timeout_s = 2.0

    async def main() -> list[TrainingSample]:
        return await RolloutStream(supervisor).sample(LOSE, 3, 1.0, Kind.REGULAR)

    group = asyncio.run(asyncio.wait_for(main(), 60))
    assert [sample.index for sample in group] == [0, 1, 2]
    assert supervisor.engines[0].restarts == 1 and supervisor.engines[0].outstanding == 0
    assert (tmp_path / "lost").exists()


def test_a_grader_that_dies_is_replaced_and_its_response_batch_graded_again(staff):
    supervisor, _ = staff
    ray.kill(supervisor.graders[0].handle)

    async def main() -> list[TrainingSample]:
        return await RolloutStream(supervisor).sample(FAST, 2, 1.0, Kind.REGULAR)

    assert len(asyncio.run(main())) == 2
    assert supervisor.graders[0].restarts == 1
