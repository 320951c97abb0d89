"""The default run's steps and TRL's in turns, and the memory of both.

Our run is on-policy as TRL, where engine and learner work in turns and each could use both cores, or one step ahead, where each has one
core. It uses the default algorithm, whose steps also explore and replay, or `algorithm=grpo`, which does the same work as TRL except that
it leaves out responses whose advantage is zero.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from actors.driver.controller import Controller
from bench.bare import Bare
from bench.memory import PeakMemory
from bench.metric import Metric, Reference, Target
from bench.steps import AHEAD, in_blocks_of, train_steps
from bench.task import default_config
from bench.trl.sides import both, steps_in_turns
from bench.turns import Block

ON_POLICY = ("train.max_staleness=0",)
MEMORY_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Run:
    """A run of ours that is compared with TRL."""

    algorithm: str
    settings: tuple[str, ...]
    steps: int  # of a block: a multiple of replay.every, so that each block has its share of replay updates
    pairs: int
    target: Target | None = None

    @property
    def what(self) -> str:
        return f"algorithm={self.algorithm}, {self.settings[0]}"


RUNS = (
    Run("uec", ON_POLICY, steps=5, pairs=5),
    Run("grpo", ON_POLICY, steps=5, pairs=5),
    Run("uec", AHEAD, steps=20, pairs=3, target=Target(2.0, at_most=False)),
    Run("grpo", AHEAD, steps=20, pairs=3, target=Target(2.0, at_most=False)),
)
MEASURED_FOR_MEMORY = RUNS[2]
TRL_STEPS = 5
"""Steps of TRL's block; all its steps take the same time."""


def compare(scratch: Path, runs: tuple[Run, ...] = RUNS) -> list[Metric]:
    """Return a metric for each run, and one for the memory of MEASURED_FOR_MEMORY."""
    return [metric for i, run in enumerate(runs) for metric in asyncio.run(_compare(run, scratch / str(i)))]


async def _compare(run: Run, scratch: Path) -> list[Metric]:
    cfg = default_config(f"algorithm={run.algorithm}", *run.settings, *in_blocks_of(run.steps))
    async with both(cfg, scratch) as (controller, trl):
        metric = await steps_in_turns(run.what, controller, trl, run.steps, TRL_STEPS, run.pairs, run.target)
        return [metric, await _memory(run, controller, trl)] if run is MEASURED_FOR_MEMORY else [metric]


async def _memory(run: Run, controller: Controller, trl: Bare) -> Metric:
    """Return the peak memory of a block of each side, sampled often; the blocks are not timed."""

    def theirs() -> Block:
        return trl.call("steps", TRL_STEPS)

    with PeakMemory(os.getpid(), without=trl.pid, interval_s=MEMORY_INTERVAL_S) as ours:
        await train_steps(controller, run.steps)
    with PeakMemory(trl.pid, interval_s=MEMORY_INTERVAL_S) as others:
        await asyncio.to_thread(theirs)
    ratio = ours.peak / others.peak
    reference = Reference("TRL GRPOTrainer", others.peak / 2**30, ratio, ratio, ratio, pairs=1)
    note = "proportional set size of all processes, including Ray's and the driver; TRL has one process"
    return Metric(f"peak memory, {run.what}", ours.peak / 2**30, "GiB", reference=reference, note=note)
