"""Exploration streamed (a difficult prompt at once) against exploration as a second phase.

The second phase is `exploration.stream: false`; the same prompts in turns. First on the default task with the real engine:
responses are short and alike, so that no difference is expected. Then with a skew of response lengths injected by a stand-in
engine (bench/late_engine.py); graders, stream and Controller are real there, too. Nothing is learned in between. Only rollouts are
timed: steps 1 to 5 of the algorithm.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

from actors.runtime.supervisor import Supervisor
from bench.crew import crew, explore, prompts_of, without_learners
from bench.figure import Figure, Target, compared
from bench.late_engine import FixedJudge, LateEngine
from bench.task import default_config
from bench.turns import Block, in_turns, total
from uec.config.schema import Config

PAIRS = 12
STEPS = 2
"""Steps in a block of the default task."""

SKEWED_PAIRS = 9
LONGEST = 1000
"""Tokens of the stand-in's longest response."""

SAME = Target(1.05)
"""No difference: sampling differs from block to block, and 5 % is what that moves the median by."""

LESS = Target(0.9)


def measure(scratch: Path) -> list[Figure]:
    return [*default_task(scratch / "default"), *skewed(scratch / "skewed")]


def default_task(scratch: Path, pairs: int = PAIRS, steps: int = STEPS) -> list[Figure]:
    """Seconds for a thousand tokens: how many prompts turn out difficult differs from block to block."""
    streamed, phased = asyncio.run(_measure(default_config(), scratch, pairs, steps, skew=False))
    return [
        compared(
            "streamed, default task",
            streamed,
            phased,
            lambda block: block.cost,
            "s/1k tokens",
            "second phase",
            SAME,
        )
    ]


def skewed(scratch: Path, pairs: int = SKEWED_PAIRS) -> list[Figure]:
    """Seconds: both ways generate the same lengths."""
    streamed, phased = asyncio.run(_measure(default_config(f"rollout.max_tokens={LONGEST}"), scratch, pairs, 1, skew=True))
    return [
        compared(
            "streamed, skewed lengths (stand-in engine)",
            streamed,
            phased,
            lambda block: block.seconds,
            "s",
            "second phase",
            LESS,
            f"{sum(block.tokens for block in streamed) / pairs:.0f} tokens a step on average, up to {LONGEST} a response",
        )
    ]


async def _measure(cfg: Config, scratch: Path, pairs: int, steps: int, skew: bool) -> tuple[list[Block], list[Block]]:
    async with crew(cfg, scratch, with_late_engines if skew else without_learners) as controller:

        async def rollouts(k: int, stream: bool) -> Block:
            cfg.exploration.stream = stream
            blocks = []
            for step in range(steps):
                _, block = await explore(controller, prompts_of(controller.dataset, k * steps + step, cfg.train.prompts_per_step))
                blocks.append(block)
            return total(blocks)

        async def streamed(k: int) -> Block:
            return await rollouts(k, stream=True)

        async def phased(k: int) -> Block:
            return await rollouts(k, stream=False)

        return await in_turns(streamed, phased, pairs)


def with_late_engines(supervisor: Supervisor) -> None:
    """A Recast: the injection of latencies."""
    without_learners(supervisor)
    for engine in supervisor.engines:
        engine.post = replace(engine.post, actor=LateEngine)
    supervisor.difficulty.post = replace(supervisor.difficulty.post, actor=FixedJudge)
