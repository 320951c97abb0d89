"""Step time of the default run with rollouts one step ahead, against strictly on-policy steps of the same run, in turns.

A block with rollouts ahead begins and ends without finished rollouts, as at a checkpoint, so its time includes filling up and draining.
"""

import asyncio
from pathlib import Path

from actors.driver.prefetch import RolloutPrefetcher
from bench.metric import Metric, Target, compared
from bench.run_actors import run_actors
from bench.steps import AHEAD, in_blocks_of, train_steps
from bench.task import default_config
from bench.turns import Block, in_turns

STEPS, PAIRS = 10, 5
"""Steps in a block: a multiple of replay.every."""


def measure(scratch: Path, pairs: int = PAIRS, steps: int = STEPS) -> list[Metric]:
    return asyncio.run(_measure(scratch, pairs, steps))


async def _measure(scratch: Path, pairs: int, steps: int) -> list[Metric]:
    async with run_actors(default_config(*AHEAD, *in_blocks_of(steps)), scratch) as controller:
        await controller.weights.start()
        one_ahead = controller.prefetcher
        on_policy = RolloutPrefetcher(controller.sampler.step, 0, last=lambda: 0)

        async def ahead(k: int) -> Block:
            controller.prefetcher = one_ahead
            return await train_steps(controller, steps)

        async def in_step(k: int) -> Block:
            controller.prefetcher = on_policy
            return await train_steps(controller, steps)

        mine, others = await in_turns(ahead, in_step, pairs)
    return [
        compared(
            "step, train.max_staleness=1",
            mine,
            others,
            lambda block: block.seconds / steps,
            "s",
            "train.max_staleness=0",
            Target(0.8),
            f"blocks of {steps} steps, filling up and draining included",
        )
    ]
