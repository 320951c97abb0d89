"""What processing pictures costs a rollout phase: those of the next step processed meanwhile, against pictures that were ready before.

The default run with pictures, real engine, graders and ImageActor, nothing learned. Ours does what a training step does: while a step's
responses are generated, the next step's pictures are decoded and preprocessed. The other side is given its pictures ready, and
processes none. Both sample the same prompts.
"""

import asyncio
import time
from pathlib import Path

from bench.crew import crew, explore, prompts_of, without_learners
from bench.figure import Figure, Target, compared
from bench.task import VISION, default_config
from bench.turns import Block, in_turns

PAIRS = 7


def measure(scratch: Path, pairs: int = PAIRS) -> list[Figure]:
    return asyncio.run(_measure(scratch, pairs))


async def _measure(scratch: Path, pairs: int) -> list[Figure]:
    cfg = default_config(config=VISION)
    count = cfg.train.prompts_per_step
    async with crew(cfg, scratch, without_learners) as controller:
        images = controller.supervisor.images

        def prompts(k: int) -> list[int]:
            return prompts_of(controller.dataset, k, count)

        begin = time.perf_counter()
        await images.references(prompts(0))
        each_ms = 1e3 * (time.perf_counter() - begin) / count

        async def ours(k: int) -> Block:
            images.prefetch([*prompts(k), *prompts(k + 1)])
            _, block = await explore(controller, prompts(k))
            return block

        async def theirs(k: int) -> Block:
            await images.references([*prompts(k), *prompts(k + 1)])
            _, block = await explore(controller, prompts(k))
            return block

        mine, ready = await in_turns(ours, theirs, pairs)
    return [
        compared(
            "rollouts, pictures processed meanwhile",
            mine,
            ready,
            lambda block: block.cost,
            "s/1k tokens",
            "pictures ready before",
            Target(1.10),
            f"{count} pictures a step, {each_ms:.1f} ms each by themselves; median of {pairs} pairs",
        )
    ]
