"""Stand-ins for graders and learner ranks that inject latencies, and hosts of many LateEngines; imports nothing heavy.

The Controller's calls to them are the real ones, with what goes with them: requests, plans, references to bundles, scores. A process for
each of 64 engines would take all of a small machine's time for itself, so that some live in one host: what a call costs the
caller is the same.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.late_engine import DIFFICULT_EVERY, LateEngine, Skew
from uec.config.schema import Config
from uec.types import Continuation, Kind, Logprobs, Plan, Prompt, Request, Rollout, Score, WeightUpdate

if TYPE_CHECKING:
    from actors.runtime.supervisor import Supervisor


BUSY_S = "policy/late_s"
"""The update's metric of what it takes if nothing has to be fetched."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the stand-ins are."""

    skew: Skew  # engines
    token_s: float  # of learning, for each response token of a rank


class LateGrader:
    """Stands on a RewardActor's post. A difficult prompt is solved in exploration only; about half of all other responses are right."""

    def __init__(self, cfg: Config, rank: int) -> None: ...

    async def start(self, prompts: list[Prompt]) -> None: ...

    async def grade(self, rollouts: list[Rollout]) -> list[Score]:
        return [self._score(slot, rollout) for slot, rollout in enumerate(rollouts)]

    def _score(self, slot: int, rollout: Rollout) -> Score:
        solvable = rollout.kind is Kind.EXPLORATION or rollout.prompt % DIFFICULT_EVERY != 0
        right = float(solvable and (rollout.prompt + rollout.index) % 2)
        return Score(
            group=rollout.group,
            index=rollout.index,
            slot=slot,
            reward=right,
            accuracy=right,
            parts={"accuracy": right},
            error=None,
            timed_out=False,
            prompt_tokens=len(rollout.prompt_tokens),
            response_tokens=len(rollout.tokens),
            truncated=rollout.truncated,
            version=rollout.version,
        )


class LateLearner:
    """Stands on a LearnerActor's post: an update takes as long as its rank's share of the response tokens."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self._rank = rank

    def pace(self, pace: Pace) -> None:
        self._token_s = pace.token_s

    def address(self) -> tuple[str, int]:
        return "", 0

    def start(self, address: tuple[str, int]) -> dict[str, float]:
        return {}

    def update(self, plan: Plan, *data: list[Rollout]) -> tuple[dict[str, float], dict[int, Logprobs]]:
        begin = time.perf_counter()
        rollouts = [data[sample.bundle][sample.slot] for sample in plan.samples]
        busy_s = self._token_s * sum(len(rollout.tokens) for rollout in rollouts)
        old_logprobs = {i: rollouts[i].logprobs for i, sample in enumerate(plan.samples) if sample.admit}
        time.sleep(max(0.0, begin + busy_s - time.perf_counter()))
        return {"policy/entropy": 1.0, "policy/loss": 0.0, BUSY_S: busy_s}, old_logprobs

    def publish(self, version: int) -> WeightUpdate | None:
        return WeightUpdate(version, "none", [], [], [], 0) if self._rank == 0 else None

    def score(self, sequences: list[Continuation]) -> tuple[list[Logprobs], list[Logprobs]]:
        zeros = [np.zeros(len(one.tokens), np.float32) for one in sequences]
        return zeros, zeros

    def close(self) -> None: ...


class Host:
    """Stands on a RolloutActor's post, and for many of them: engines by their number, in one process."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self._cfg = cfg
        self._engines: dict[int, LateEngine] = {}

    async def pace(self, pace: Pace) -> None:
        """From now on; the engines start anew."""
        self._skew = pace.skew
        self._engines = {}

    async def start(self, prompts: list[Prompt]) -> dict[str, float]:
        self._prompts = prompts
        return {}

    async def generate(self, number: int, requests: list[Request]) -> AsyncIterator[list[Rollout]]:
        async for bundle in (await self._engine(number)).generate(requests):
            yield bundle

    async def update_weights(self, number: int, publication: WeightUpdate) -> None:
        await (await self._engine(number)).update_weights(publication)

    async def score(self, number: int, sequences: list[Continuation]) -> list[Logprobs]:
        return await (await self._engine(number)).score(sequences)

    async def _engine(self, number: int) -> LateEngine:
        if number not in self._engines:
            self._engines[number] = engine = LateEngine(self._cfg, number, self._skew)
            await engine.start(self._prompts)
        return self._engines[number]


@dataclass(frozen=True, slots=True)
class Call:
    """A method of a host's actor, called for one of its engines."""

    method: Any
    number: int

    def options(self, **options: Any) -> "Call":
        return Call(self.method.options(**options), self.number)

    def remote(self, *args: Any) -> Any:
        return self.method.remote(self.number, *args)


@dataclass(frozen=True, slots=True)
class Seat:
    """Stands for an actor's handle where the actor is one of a host's engines."""

    host: Any
    number: int

    def __getattr__(self, name: str) -> Call:
        return Call(getattr(self.host, name), self.number)


def late(supervisor: "Supervisor") -> None:
    """A Recast: hosts, graders and learners that inject latencies; Controller, DifficultyActor and ReplayActor stay what they are."""
    for members, actor in ((supervisor.engines, Host), (supervisor.learners, LateLearner), (supervisor.graders, LateGrader)):
        for member in members:
            member.post = replace(member.post, actor=actor, cpus=0.01, environment={})


async def pace(supervisor: "Supervisor", pace: Pace) -> None:
    """Set the pace of learners and seated engines; the engines then hold no weights."""
    hosts = {seat.handle.host for seat in supervisor.engines}
    await asyncio.gather(*(actor.pace.remote(pace) for actor in [*hosts, *(rank.handle for rank in supervisor.learners)]))


@contextmanager
def seated(supervisor: "Supervisor", engines: int) -> Iterator[None]:
    """The hosts' engines in the hosts' place, dealt over them."""
    hosts = supervisor.engines
    supervisor.engines = [
        replace(host, name=f"late-{number}", handle=Seat(host.handle, number), lock=asyncio.Lock())
        for number in range(engines)
        for host in [hosts[number % len(hosts)]]
    ]
    try:
        yield
    finally:
        supervisor.engines = hosts
