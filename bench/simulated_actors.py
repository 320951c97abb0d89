"""Graders and learner ranks that only wait, and hosts of many SimulatedEngines; imports nothing heavy.

The Controller's calls to them are real, with all their data: requests, plans, references to response batches, rewards. A process for
each of 64 engines would use all of a small machine's time, so one host holds several engines: a call costs the caller the same.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.simulated_engine import DIFFICULT_EVERY, SimulatedEngine, Skew
from uec.config.schema import Config
from uec.types import Continuation, Kind, Logprobs, Prompt, Request, TrainingSample, Trajectory, UpdatePlan, WeightUpdate

if TYPE_CHECKING:
    from actors.runtime.supervisor import Supervisor


BUSY_S = "policy/busy_s"
"""Metric of an update: its seconds without fetching data."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of the simulated actors."""

    skew: Skew  # engines
    token_s: float  # of learning, per response token of a rank


class SimulatedGrader:
    """Replaces RewardActor. A difficult prompt is solved in exploration only; about half of all other responses are right."""

    def __init__(self, cfg: Config, rank: int) -> None: ...

    async def start(self, prompts: list[Prompt]) -> None: ...

    async def grade(self, batch: list[Trajectory]) -> list[TrainingSample]:
        return [self._sample(slot, trajectory) for slot, trajectory in enumerate(batch)]

    def _sample(self, slot: int, trajectory: Trajectory) -> TrainingSample:
        solvable = trajectory.kind is Kind.EXPLORATION or trajectory.prompt % DIFFICULT_EVERY != 0
        right = float(solvable and (trajectory.prompt + trajectory.index) % 2)
        return TrainingSample.of(trajectory, slot, reward=right, accuracy=right, parts={"accuracy": right})


class SimulatedLearner:
    """Replaces LearnerActor: an update takes a time proportional to the rank's response tokens."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self._rank = rank

    def pace(self, pace: Pace) -> None:
        self._token_s = pace.token_s

    def address(self) -> tuple[str, int]:
        return "", 0

    def start(self, address: tuple[str, int]) -> dict[str, float]:
        return {}

    def update(self, plan: UpdatePlan, *data: list[Trajectory]) -> tuple[dict[str, float], dict[int, Logprobs]]:
        begin = time.perf_counter()
        trajectories = [data[batch][slot] for batch, slot in plan.places]
        busy_s = self._token_s * sum(len(trajectory.tokens) for trajectory in trajectories)
        old_logprobs = {i: trajectories[i].logprobs for i in plan.admitted}
        time.sleep(max(0.0, begin + busy_s - time.perf_counter()))
        return {"policy/entropy": 1.0, "policy/loss": 0.0, BUSY_S: busy_s}, old_logprobs

    def digest(self) -> str:
        return ""  # unknown: the weights do not change

    def publish(self, version: int) -> WeightUpdate | None:
        return WeightUpdate(version, "none", [], [], [], 0) if self._rank == 0 else None

    def logprobs(self, continuations: list[Continuation]) -> tuple[list[Logprobs], list[Logprobs]]:
        zeros = [np.zeros(len(one.tokens), np.float32) for one in continuations]
        return zeros, zeros

    def close(self) -> None: ...


class Host:
    """Replaces many RolloutActors: holds numbered engines in one process."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self._cfg = cfg
        self._engines: dict[int, SimulatedEngine] = {}

    async def pace(self, pace: Pace) -> None:
        """Set the pace and remove the engines, which start again when they are called."""
        self._skew = pace.skew
        self._engines = {}

    async def start(self, prompts: list[Prompt]) -> dict[str, float]:
        self._prompts = prompts
        return {}

    async def generate(self, number: int, requests: list[Request]) -> AsyncIterator[list[Trajectory]]:
        async for response_batch in (await self._engine(number)).generate(requests):
            yield response_batch

    async def update_weights(self, number: int, update: WeightUpdate) -> None:
        await (await self._engine(number)).update_weights(update)

    async def logprobs(self, number: int, continuations: list[Continuation]) -> list[Logprobs]:
        return await (await self._engine(number)).logprobs(continuations)

    async def checksum(self, number: int) -> str:
        return ""

    async def _engine(self, number: int) -> SimulatedEngine:
        if number not in self._engines:
            self._engines[number] = engine = SimulatedEngine(self._cfg, number, self._skew)
            await engine.start(self._prompts)
        return self._engines[number]


@dataclass(frozen=True, slots=True)
class Call:
    """A method of a host that is called for one of its engines."""

    method: Any
    number: int

    def options(self, **options: Any) -> "Call":
        return Call(self.method.options(**options), self.number)

    def remote(self, *args: Any) -> Any:
        return self.method.remote(self.number, *args)


@dataclass(frozen=True, slots=True)
class HostedEngine:
    """The handle of one of a host's engines, in place of an actor's handle."""

    host: Any
    number: int

    def __getattr__(self, name: str) -> Call:
        return Call(getattr(self.host, name), self.number)


def simulated(supervisor: "Supervisor") -> None:
    """A SpecChange: hosts, graders and learners are simulated; Controller, DifficultyActor and ReplayActor are real."""
    for slots, actor in ((supervisor.engines, Host), (supervisor.learners, SimulatedLearner), (supervisor.graders, SimulatedGrader)):
        for slot in slots:
            slot.spec = replace(slot.spec, actor=actor, cpus=0.01, environment={})


async def pace(supervisor: "Supervisor", pace: Pace) -> None:
    """Set the pace of learners and hosted_engines engines, which then hold no weights."""
    hosts = {engine.handle.host for engine in supervisor.engines}
    await asyncio.gather(*(actor.pace.remote(pace) for actor in [*hosts, *(rank.handle for rank in supervisor.learners)]))


@contextmanager
def hosted_engines(supervisor: "Supervisor", engines: int) -> Iterator[None]:
    """Give the supervisor `engines` engines, distributed over the hosts, in place of the hosts."""
    hosts = supervisor.engines
    supervisor.engines = [
        replace(host, spec=replace(host.spec, name=f"simulated-{number}"), handle=HostedEngine(host.handle, number), lock=asyncio.Lock())
        for number in range(engines)
        for host in [hosts[number % len(hosts)]]
    ]
    try:
        yield
    finally:
        supervisor.engines = hosts
