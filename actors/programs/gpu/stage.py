"""The actors of the GPU checks: started for a check, shared with the next one that needs the same, and ended after a failure."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import ray

from actors.driver.actor_specs import supervise, training_actors
from actors.driver.learner_group import LearnerGroup
from actors.driver.rollouts import RolloutStream
from actors.driver.weight_probe import probe_sequences
from actors.driver.weight_sync import WeightSync
from actors.programs.gpu.rig import Rig
from actors.programs.preflight import preflight
from actors.runtime.slots import Role
from actors.runtime.supervisor import Supervisor
from uec.config.schema import Config
from uec.data.dataset import Dataset
from uec.models.logprob_gap import Gap, Tolerance, tolerance
from uec.system.platform import detect
from uec.tracking.tracker import Tracker
from uec.types import Continuation, Kind, Logprobs, TrainingSample


@dataclass(frozen=True, slots=True)
class Probe:
    """Log-probabilities of the probe's sequences by the learner and by the first engine, and the largest gap of any engine."""

    gap: Gap
    learner: list[Logprobs]
    engine: list[Logprobs]


@dataclass
class Cast:
    """Running actors with the driver's parts around them."""

    cfg: Config
    supervisor: Supervisor
    dataset: Dataset
    weights: WeightSync
    tolerance: Tolerance
    learners: LearnerGroup
    samples: list[TrainingSample]  # made up, to update with
    used: list[int] = field(default_factory=list)  # readings of the GPU's memory

    @property
    def sequences(self) -> list[Continuation]:
        """Return the sequences of the weight sync's probe."""
        return probe_sequences(self.dataset.train, self.cfg.rollout.max_tokens)

    async def update(self, seed: int) -> dict[str, float]:
        """Run a policy update on the made-up samples; return its metrics."""
        return (await self.learners.update(self.samples, seed)).metrics

    async def publish_seconds(self) -> float:
        """Return the longest `publish` of the last weight sync."""
        return max(await self.ask(Role.LEARNER, "publish_seconds"))

    async def memory(self) -> int:
        """Read the bytes that all processes use on the fullest GPU."""
        self.used.append(max(await self.ask(Role.LEARNER, "device_bytes")))
        return self.used[-1]

    async def start_weights(self) -> None:
        """Give the engines the learners' weights as version 0, unless they have some already."""
        if self.supervisor.update is None:
            await self.weights.start()

    async def probe(self) -> Probe:
        """Compare every engine with the learners on `sequences`."""
        [(learned, _), *_] = await self.ask(Role.LEARNER, "logprobs", self.sequences)
        sampled = await self.ask(Role.ENGINE, "logprobs", self.sequences)
        return Probe(reduce(Gap.or_worse, (Gap.of(learned, logprobs) for logprobs in sampled)), learned, sampled[0])

    async def sample(self) -> tuple[list[TrainingSample], float]:
        """Sample and grade responses to every prompt; return them and the seconds."""
        stream, begin = RolloutStream(self.supervisor), time.perf_counter()
        n = self.cfg.rollout.n
        groups = await asyncio.gather(*(stream.sample(prompt.index, n, 1.0, Kind.REGULAR) for prompt in self.dataset.train))
        return [sample for group in groups for sample in group], time.perf_counter() - begin

    async def ask(self, role: Role, method: str, *args: Any) -> list[Any]:
        """Call a method of every engine or learner."""
        slots = self.supervisor.engines if role is Role.ENGINE else self.supervisor.learners
        return list(await asyncio.gather(*(self.supervisor.call(slot, method, *args) for slot in slots)))


class Stage:
    """One cast at a time: `of` ends another one first."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig = rig
        self.folder = folder
        self._cast: Cast | None = None
        self._key: Any = None
        self._casts = 0

    def config(self, *overrides: str) -> Config:
        return self.rig.config(self.folder, *overrides)

    async def of(self, roles: Sequence[Role], *overrides: str, learner: type | None = None) -> Cast:
        """Return running actors of these roles with these settings: the same as before if nothing differs."""
        key = (tuple(roles), overrides, learner)
        if self._cast is None or key != self._key:
            await self.close()
            self._cast, self._key = await self._start(roles, self.config(*overrides), learner or self.rig.learner), key
        return self._cast

    async def close(self) -> None:
        """End the running actors."""
        cast, self._cast = self._cast, None
        if cast is not None:
            await cast.supervisor.stop()

    async def _start(self, roles: Sequence[Role], cfg: Config, learner: type) -> Cast:
        rig = self.rig
        dataset = await asyncio.to_thread(preflight, cfg)
        classes = {Role.ENGINE: rig.engine, Role.LEARNER: learner}
        specs = [spec for spec in training_actors(cfg, rig.device) if spec.role in roles]
        specs = [replace(spec, actor=classes.get(spec.role, spec.actor)) for spec in specs]
        self._casts += 1
        name = f"{self._casts:02d}"
        supervisor = supervise(cfg, specs, self.folder / "logs" / name, Tracker([]), f"uec-doctor-gpu-{name}")
        try:
            await supervisor.start(dataset.train)
        except BaseException:
            await supervisor.stop()
            raise
        limits = tolerance(cfg, detect(cfg, rig.device))
        weights = WeightSync(cfg, supervisor, dataset.train, limits)
        trajectories = rig.made_up(dataset.train)
        batch = ray.put(trajectories)
        samples = [
            replace(TrainingSample.of(one, slot), batch=batch, advantage=1.0 if slot % 2 else -1.0) for slot, one in enumerate(trajectories)
        ]
        return Cast(cfg, supervisor, dataset, weights, limits, LearnerGroup(cfg, supervisor), samples)
