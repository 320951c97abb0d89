"""Exploration streamed (each difficult prompt at once) against exploration as a second phase.

The second phase is `exploration.stream: false`; both sides have the same prompts, in turns. The first part uses the default task and
the real engine: responses are short and of similar length, so no difference is expected. The second part uses a simulated engine with
skewed response lengths (bench/simulated_engine.py); graders, stream and Controller are real. Nothing is learned in between. Only
rollouts are timed: steps 1 to 5 of the algorithm.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

from actors.runtime.supervisor import Supervisor
from bench.metric import Metric, Target, compared
from bench.run_actors import explore, prompts_of, run_actors, without_learners
from bench.simulated_engine import FixedDifficulty, SimulatedEngine
from bench.task import default_config
from bench.turns import Block, in_turns, total
from uec.config.schema import Config

PAIRS = 12
STEPS = 2
"""Steps in a block of the default task."""

SKEWED_PAIRS = 9
LONGEST = 1000
"""Tokens of the longest simulated response."""

SAME = Target(1.05)
"""No difference, except for sampling, which changes from block to block and moves the median by up to 5 %."""

LESS = Target(0.9)


def measure(scratch: Path) -> list[Metric]:
    return [*default_task(scratch / "default"), *skewed(scratch / "skewed")]


def default_task(scratch: Path, pairs: int = PAIRS, steps: int = STEPS) -> list[Metric]:
    """Compare seconds per thousand tokens, because the number of difficult prompts differs from block to block."""
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


def skewed(scratch: Path, pairs: int = SKEWED_PAIRS) -> list[Metric]:
    """Compare seconds: both sides generate responses of the same lengths."""
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
    async with run_actors(cfg, scratch, with_simulated_engines if skew else without_learners) as controller:

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


def with_simulated_engines(supervisor: Supervisor) -> None:
    """A SpecChange: engines with simulated latencies, and a fixed difficulty."""
    without_learners(supervisor)
    for engine in supervisor.engines:
        engine.spec = replace(engine.spec, actor=SimulatedEngine)
    supervisor.difficulty.spec = replace(supervisor.difficulty.spec, actor=FixedDifficulty)
