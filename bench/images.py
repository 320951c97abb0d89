"""Cost of image processing during rollouts: images of the next step processed meanwhile, against images that were ready before.

This is the default run with images, with real engine, graders and ImageActor; nothing is learned. Our side works as a training step:
while a step's responses are generated, the next step's images are decoded and preprocessed. The other side gets processed images.
Both sample the same prompts.
"""

import asyncio
import time
from pathlib import Path

from bench.metric import Metric, Target, compared
from bench.run_actors import explore, prompts_of, run_actors, without_learners
from bench.task import VISION, default_config
from bench.turns import Block, in_turns

PAIRS = 7


def measure(scratch: Path, pairs: int = PAIRS) -> list[Metric]:
    return asyncio.run(_measure(scratch, pairs))


async def _measure(scratch: Path, pairs: int) -> list[Metric]:
    cfg = default_config(config=VISION)
    count = cfg.train.prompts_per_step
    async with run_actors(cfg, scratch, without_learners) as controller:
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
            "rollouts, images processed meanwhile",
            mine,
            ready,
            lambda block: block.cost,
            "s/1k tokens",
            "images ready before",
            Target(1.10),
            f"{count} images a step, {each_ms:.1f} ms each by themselves; median of {pairs} pairs",
        )
    ]
