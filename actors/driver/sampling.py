"""How many responses and prompts a step samples: rounds of a prompt's responses, and prompts that replace uninformative ones."""

import asyncio
from collections.abc import Awaitable, Callable

from actors.driver.image_cache import ImageStore
from uec.algorithm.exploration import enough, joined
from uec.algorithm.retention import PromptRollouts
from uec.config.schema import Config
from uec.data.order import PromptOrder
from uec.types import Group, Kind


async def sample_rounds(
    sample: Callable[[int, int, float, Kind], Awaitable[Group]],
    prompt: int,
    rounds: list[int],
    temperature: float,
    kind: Kind,
    until: str,
    solved_at: float,
) -> Group:
    """A prompt's responses, `rounds` of them one after the other, until there are enough (see uec.algorithm.exploration)."""
    group = await sample(prompt, rounds[0], temperature, kind)
    for n in rounds[1:]:
        if enough(group, until, solved_at):
            break
        group = joined(group, await sample(prompt, n, temperature, kind))
    return group


async def sample_prompts(
    explore: Callable[[int, asyncio.Barrier | None], Awaitable[PromptRollouts]], order: PromptOrder, cfg: Config, images: ImageStore
) -> list[PromptRollouts]:
    """Steps 1 to 4 of the algorithm for a step's prompts, side by side. The next step's images are processed meanwhile.

    With `dynamic_sampling` (DAPO, 2503.14476) an uninformative prompt is replaced at once by the next of the data, until there are
    enough or `dynamic_sampling.max_prompts` is reached. The replaced ones are returned, too: their tokens were paid for.
    """
    count = cfg.train.prompts_per_step
    spare = int(cfg.dynamic_sampling.max_prompts * count) - count if cfg.dynamic_sampling.enabled else 0
    everyone_regular = asyncio.Barrier(count)

    async def place(prompt: int) -> list[PromptRollouts]:
        nonlocal spare
        visits = [await explore(prompt, everyone_regular)]
        while spare > 0 and visits[-1].uninformative:
            spare -= 1
            visits.append(await explore(order.take(1)[0], None))
        return visits

    prompts = order.take(count)
    images.prefetch([*prompts, *order.peek(count)])
    places = await asyncio.gather(*(place(prompt) for prompt in prompts))
    return [sampled for visits in places for sampled in visits]
