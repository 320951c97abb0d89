"""Step time of UEC-RL against GRPO's at equal samples, and at equal tokens; the paper (arXiv 2604.14646) states a ratio of 0.79.

Both train from the same checkpoint, on-policy, in turns; each has an engine and a learner. UEC-RL samples 8 responses to each
prompt and 16 more to a difficult one. GRPO then samples as many responses, or tokens, in as many steps, the same number for each prompt:
`rollout.n` is chosen before each step, so that the totals agree. Both leave out responses whose advantage is zero.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from actors.driver.controller import Controller
from bench.metric import Metric, compared
from bench.run_actors import actors_on, cluster, named
from bench.steps import ENDLESS
from bench.task import default_config
from bench.turns import Block, in_turns

PAIRS = 5
FEWEST = 2
"""Responses to a prompt: an advantage needs two."""


@dataclass(frozen=True, slots=True)
class Step:
    """The time of a training step, and its samples."""

    seconds: float
    samples: int
    tokens: int


def measure(scratch: Path, pairs: int = PAIRS) -> list[Metric]:
    return asyncio.run(_measure(scratch, pairs))


async def _measure(scratch: Path, pairs: int) -> list[Metric]:
    settings = ("train.max_staleness=0", f"train.steps={ENDLESS}")
    uec_cfg, grpo_cfg = (default_config(f"algorithm={algorithm}", *settings) for algorithm in ("uec", "grpo"))
    async with AsyncExitStack() as stack:
        platform = stack.enter_context(cluster(uec_cfg))
        uec = await stack.enter_async_context(actors_on(uec_cfg, platform, scratch / "uec", named("uec")))
        grpo = await stack.enter_async_context(actors_on(grpo_cfg, platform, scratch / "grpo", named("grpo")))
        await asyncio.gather(uec.weights.start(), grpo.weights.start())
        return [await _compare(uec, grpo, unit, pairs) for unit in ("samples", "tokens")]


async def _compare(uec: Controller, grpo: Controller, unit: str, pairs: int) -> Metric:
    """Return the ratio of step times with equal `unit`, an attribute of Step."""
    count, prompts = uec.cfg.replay.every, grpo.cfg.train.prompts_per_step  # each block has one replay update
    ours: list[Step] = []
    theirs: list[Step] = []

    async def uec_block(k: int) -> Block:
        steps = [await _step(uec) for _ in range(count)]
        ours.extend(steps)
        return _block(steps)

    async def grpo_block(k: int) -> Block:
        wanted, last = sum(getattr(step, unit) for step in ours[-count:]), ours[-1]
        steps: list[Step] = []
        for left in range(count, 0, -1):
            spent = sum(getattr(step, unit) for step in steps)
            grpo.cfg.rollout.n = responses(wanted - spent, left, prompts, getattr(last, unit) / last.samples)
            last = await _step(grpo)
            steps.append(last)
        theirs.extend(steps)
        return _block(steps)

    mine, others = await in_turns(uec_block, grpo_block, pairs)
    against = "algorithm=grpo, rollout.n as it takes"
    note = _note(ours[count:], theirs[count:], prompts)  # the first pair is not counted
    return compared(f"step of algorithm=uec, equal {unit}", mine, others, lambda block: block.seconds / count, "s", against, note=note)


def responses(wanted: float, steps: int, prompts: int, cost: float) -> int:
    """Return the responses to each prompt in the next of `steps` steps, which spend `wanted` in all; a response costs `cost`."""
    return max(FEWEST, round(wanted / steps / prompts / cost))


async def _step(controller: Controller) -> Step:
    begin = time.perf_counter()
    metrics = await controller.step(controller.steps_done + 1)
    controller.steps_done += 1
    cfg = controller.cfg
    samples = metrics["rollout/prompts"] * cfg.rollout.n + metrics["explore/groups"] * cfg.exploration.n
    return Step(time.perf_counter() - begin, int(samples), int(metrics["rollout/tokens"]))


def _block(steps: list[Step]) -> Block:
    return Block(sum(step.seconds for step in steps), sum(step.tokens for step in steps))


def _note(ours: list[Step], theirs: list[Step], prompts: int) -> str:
    """Return the samples and tokens of a step on both sides."""
    samples, tokens = ([fmean(getattr(step, unit) for step in steps) for steps in (ours, theirs)] for unit in ("samples", "tokens"))
    n = samples[1] / prompts
    return f"{samples[0]:.0f} samples a step against {samples[1]:.0f} (n = {n:.1f}), {tokens[0]:.0f} tokens against {tokens[1]:.0f}"
