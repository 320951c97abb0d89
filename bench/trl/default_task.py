"""The default run's steps and TRL's in turns, and what memory both take.

On-policy as TRL, where engine and learner work in turns and one of them could have both cores; and rolled one step ahead, where each
has one. With the default algorithm, whose steps also explore and replay, and with `algorithm=grpo`, which does what TRL does, except
that it leaves out responses without an advantage.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from actors.driver.controller import Controller
from bench.bare import Bare
from bench.figure import Figure, Reference, Target
from bench.memory import PeakMemory
from bench.steps import AHEAD, in_blocks_of, train_steps
from bench.task import default_config
from bench.trl.sides import both, steps_in_turns
from bench.turns import Block

ON_POLICY = ("train.max_staleness=0",)
MEMORY_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Run:
    """A run of ours that is held against TRL."""

    algorithm: str
    settings: tuple[str, ...]
    steps: int  # of a block: a multiple of replay.every, so that each has its share of replay updates
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
"""Of TRL's block: each takes as long as the next."""


def compare(scratch: Path, runs: tuple[Run, ...] = RUNS) -> list[Figure]:
    """A figure for each run, and one of the memory of MEASURED_FOR_MEMORY."""
    return [figure for i, run in enumerate(runs) for figure in asyncio.run(_compare(run, scratch / str(i)))]


async def _compare(run: Run, scratch: Path) -> list[Figure]:
    cfg = default_config(f"algorithm={run.algorithm}", *run.settings, *in_blocks_of(run.steps))
    async with both(cfg, scratch) as (controller, trl):
        figure = await steps_in_turns(run.what, controller, trl, run.steps, TRL_STEPS, run.pairs, run.target)
        return [figure, await _memory(run, controller, trl)] if run is MEASURED_FOR_MEMORY else [figure]


async def _memory(run: Run, controller: Controller, trl: Bare) -> Figure:
    """Of a block of each side, sampled often; it is not timed."""

    def theirs() -> Block:
        return trl.call("steps", TRL_STEPS)

    with PeakMemory(os.getpid(), without=trl.pid, interval_s=MEMORY_INTERVAL_S) as ours:
        await train_steps(controller, run.steps)
    with PeakMemory(trl.pid, interval_s=MEMORY_INTERVAL_S) as others:
        await asyncio.to_thread(theirs)
    ratio = ours.peak / others.peak
    reference = Reference("TRL GRPOTrainer", others.peak / 2**30, ratio, ratio, ratio, pairs=1)
    note = "proportional set size of all processes, Ray's and this one, which drives them, included; TRL has one process"
    return Figure(f"peak memory, {run.what}", ours.peak / 2**30, "GiB", reference=reference, note=note)
