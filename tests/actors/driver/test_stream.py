"""Groups stream: graded as they end, classified at their last score, explored while others are still at work.

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

from actors.driver.controller import Controller
from actors.driver.rollout_log import RolloutLog
from actors.driver.rollouts import RolloutStream
from actors.driver.weight_sync import WeightExchange
from actors.runtime.supervisor import ActorSlot, ActorSpec, Supervisor
from uec.config.schema import Config
from uec.data.dataset import Dataset
from uec.run_folder import RunFolder
from uec.tracking.tracker import Tracker
from uec.types import Group, Kind, Outcome, Progress, Prompt, Request, Rollout, Score, Verdict

pytestmark = pytest.mark.e2e
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import a test module

FAST, SLOW = 0, 1
PATIENCE_S = 8.0
DIE = 2


class LateEngine:
    """Injects latency: prompt SLOW waits until another was explored, or for PATIENCE_S; DIE kills the first process that it meets."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self.explored = asyncio.Event()

    async def start(self, prompts: object) -> None: ...

    async def generate(self, requests: list[Request]) -> AsyncIterator[list[Rollout]]:
        marker = Path(os.environ["UEC_TEST_FOLDER"]) / "died"
        for request in sorted(requests, key=lambda request: request.prompt == SLOW):
            if request.prompt == DIE and not marker.exists():
                yield [_rollout(request, 0)]  # half of the group is out when the process goes
                marker.touch()
                os._exit(7)
            if request.prompt == SLOW and request.kind is Kind.REGULAR:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.explored.wait(), PATIENCE_S)
            for index in range(request.n):
                yield [_rollout(request, index)]
            if request.kind is Kind.EXPLORATION:
                self.explored.set()


class TimedGrader:
    """Grades every response as wrong, and says when it saw it."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self.seen: list[tuple[int, str, float]] = []

    async def start(self, prompts: object) -> None: ...

    async def grade(self, rollouts: list[Rollout]) -> list[Score]:
        self.seen += [(rollout.prompt, rollout.kind.value, time.time()) for rollout in rollouts]
        return [_score(slot, rollout) for slot, rollout in enumerate(rollouts)]

    async def order(self) -> list[tuple[int, str, float]]:
        return self.seen


class Judge:
    """Every regular group is difficult: G' = 2 at T = 1.2."""

    def __init__(self, cfg: Config) -> None: ...

    def classify(self, outcomes: list[Outcome], progress: Progress) -> list[Verdict]:
        return [Verdict(outcome.kind is Kind.REGULAR, 2, 1.2) for outcome in outcomes]


def _rollout(request: Request, index: int) -> Rollout:
    tokens = np.zeros(3, np.int32)
    return Rollout(
        request.group, index, request.prompt, request.kind, request.temperature, tokens, tokens, np.zeros(3, np.float32), False, version=0
    )


def _score(slot: int, rollout: Rollout) -> Score:
    return Score(rollout.group, rollout.index, slot, 0.0, 0.0, {}, None, False, 3, 3, False, rollout.version)


@pytest.fixture
def staff(cluster: None, make_config, tmp_path: Path) -> Iterator[tuple[Supervisor, Config]]:
    """A Supervisor whose engine, grader and judge are stand-ins; learners and replay are not started."""
    cfg = make_config("rollout.n=2", "exploration.n=2", "train.prompts_per_step=2", "run.save_rollouts=false")
    supervisor = Supervisor(cfg, "cpu", tmp_path / "logs", Tracker([]))
    [engine], [grader], judge = supervisor.engines, supervisor.graders, supervisor.difficulty
    engine.post = replace(engine.post, actor=LateEngine, environment={"UEC_TEST_FOLDER": str(tmp_path)})
    grader.post = replace(grader.post, actor=TimedGrader)
    judge.post = ActorSpec(Judge, (cfg,), cpus=0.01)
    for number, member in enumerate([engine, grader, judge]):
        member.handle = supervisor._create(member, f"{tmp_path.name}-{number}")
    yield supervisor, cfg
    for member in (engine, grader, judge):
        ray.kill(member.handle)


def _controller(supervisor: Supervisor, cfg: Config, tmp_path: Path) -> Controller:
    prompts = [Prompt(index, "", np.zeros(3, np.int32), "", {}) for index in range(3)]
    exchange = WeightExchange(cfg, supervisor, prompts, tolerance=1e-3)
    log = RolloutLog(RunFolder(tmp_path), supervisor, enabled=False)
    return Controller(cfg, supervisor, Dataset(prompts, [], 0, 0), exchange, log, Tracker([]))


async def _explore_both(controller: Controller) -> None:
    barrier = asyncio.Barrier(2)
    await asyncio.gather(controller.explore(FAST, barrier), controller.explore(SLOW, barrier))


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

    async def main() -> tuple[Group, Group]:
        stream = RolloutStream(supervisor)
        return await asyncio.gather(
            stream.sample(DIE, 3, 1.0, Kind.REGULAR),
            stream.sample(FAST, 2, 1.0, Kind.REGULAR),
        )

    dying, other = asyncio.run(main())
    assert [t.score.index for t in dying.trajectories] == [0, 1, 2]
    assert [t.score.index for t in other.trajectories] == [0, 1]
    assert supervisor.engines[0].restarts == 1
    assert supervisor.engines[0].outstanding == 0
    assert (tmp_path / "died").exists()


def test_a_grader_that_dies_is_replaced_and_its_bundle_graded_again(staff):
    supervisor, _ = staff
    ray.kill(supervisor.graders[0].handle)

    async def main() -> Group:
        return await RolloutStream(supervisor).sample(FAST, 2, 1.0, Kind.REGULAR)

    assert len(asyncio.run(main()).trajectories) == 2
    assert supervisor.graders[0].restarts == 1
