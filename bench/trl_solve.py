"""Seconds of training to a held-out pass@16: UEC-RL, our GRPO and TRL's GRPOTrainer.

Each side begins with the same checkpoint and trains until it reaches the goal, for at most CAP steps. Every EVERY steps the same
evaluator judges its policy (bench/trl/judge.py), which is not timed. The result names a side that does not reach the goal: this is
expected of GRPO, whose pass@16 falls while its pass@1 rises.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from actors.driver.controller import Controller
from bench.bare import Bare
from bench.metric import Metric
from bench.run_actors import dataset_of, run_actors
from bench.steps import AHEAD, in_blocks_of, train_steps
from bench.task import TEXT, default_config
from bench.trl.environment import ready
from bench.trl.sides import ENVIRONMENT, THREADS, trainer
from bench.turns import Block
from uec.config.file import load_config
from uec.config.presets import PROJECT
from uec.config.schema import Config
from uec.eval.pass_at_k import mean_pass_at_k
from uec.types import Prompt

GOAL = 0.85
CAP, EVERY = 60, 5
PROMPTS, RESPONSES = 128, 16
"""Held-out prompts, and responses to each."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A side that trains."""

    what: str
    train: Callable[[], Awaitable[Block]]  # runs EVERY steps
    save: Callable[[str], Awaitable[object]]  # writes the policy to a folder


def measure(scratch: Path, goal: float = GOAL, cap: int = CAP) -> list[Metric]:
    return asyncio.run(_measure(scratch, goal, cap))


async def _measure(scratch: Path, goal: float, cap: int) -> list[Metric]:
    python = ready()
    cfg = default_config(f"eval.n={RESPONSES}")
    judged = (cfg, held_out(scratch), THREADS)
    metrics = []
    with Bare("bench.trl.judge:Judge", judged, ENVIRONMENT, scratch / "logs/judge.log", sys.executable) as judge:

        async def passed(contender: Contender) -> float:
            folder = str(scratch / "policy")
            await contender.save(folder)
            right = await asyncio.to_thread(judge.call, "right", folder)
            return mean_pass_at_k(right, [RESPONSES] * len(right), RESPONSES).value

        for algorithm in ("uec", "grpo"):
            ours = default_config(f"algorithm={algorithm}", *AHEAD, *in_blocks_of(EVERY))
            async with run_actors(ours, scratch / algorithm) as controller:
                await controller.weights.start()
                metrics.append(await climb(_ours(f"algorithm={algorithm}, {AHEAD[0]}", controller), passed, goal, cap))
        prompts = dataset_of(cfg, scratch / "trl")[0].train
        with trainer(default_config("algorithm=grpo"), prompts, python, scratch) as trl:
            trl.ready()
            metrics.append(await climb(_theirs(trl), passed, goal, cap))
    return metrics


async def climb(contender: Contender, passed: Callable[[Contender], Awaitable[float]], goal: float, cap: int) -> Metric:
    """Train until pass@16 reaches the goal or `cap` steps are done; return the training time as a metric."""
    curve, seconds, steps = [await passed(contender)], 0.0, 0
    while curve[-1] < goal and steps < cap:
        seconds += (await contender.train()).seconds
        steps += EVERY
        curve.append(await passed(contender))
    reached = "" if curve[-1] >= goal else " not reached"
    said = " ".join(f"{value:.3f}" for value in curve)
    note = f"{steps} steps; pass@{RESPONSES} every {EVERY} steps: {said}"
    return Metric(f"{contender.what}: pass@{RESPONSES} of {goal:g}{reached}", seconds, "s", note=note)


def _ours(what: str, controller: Controller) -> Contender:
    supervisor = controller.supervisor

    async def save(folder: str) -> None:
        await asyncio.gather(*(supervisor.call(rank, "save_hf", folder) for rank in supervisor.learners))

    return Contender(what, lambda: train_steps(controller, EVERY), save)


def _theirs(trl: Bare) -> Contender:
    return Contender(
        f"TRL GRPOTrainer, {THREADS} threads",
        lambda: asyncio.to_thread(trl.call, "steps", EVERY),
        lambda folder: asyncio.to_thread(trl.call, "save", folder),
    )


def held_out(scratch: Path) -> list[Prompt]:
    """Return the first PROMPTS of the default run's evaluation prompts."""
    cfg: Config = default_config(f"eval.prompts={PROMPTS}")
    cfg.data.eval = str(PROJECT / (load_config(TEXT, []).data.eval or ""))
    return dataset_of(cfg, scratch / "judge")[0].eval
