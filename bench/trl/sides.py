"""Both sides of a comparison with TRL: our run and TRL's trainer, with the same checkpoint, prompts, reward and settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from actors.driver.controller import Controller
from bench.bare import Bare
from bench.metric import Metric, Target, compared
from bench.run_actors import run_actors
from bench.steps import train_steps
from bench.trl.environment import ready
from bench.turns import Block, in_turns
from uec.config.schema import Config
from uec.types import Prompt

THREADS = 2
"""Threads of TRL's single process. Our run has two processes that compute, engine and learner."""

ENVIRONMENT = {"OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@asynccontextmanager
async def both(cfg: Config, scratch: Path) -> AsyncIterator[tuple[Controller, Bare]]:
    """Start our actors and TRL's process, ready for their first steps. Creates TRL's environment if it is missing."""
    python = ready()
    async with run_actors(cfg, scratch) as controller:
        with trainer(cfg, controller.dataset.train, python, scratch) as trl:
            await controller.weights.start()
            yield controller, trl


def trainer(cfg: Config, prompts: list[Prompt], python: Path, scratch: Path) -> Bare:
    """Return TRL's process, a context manager: a bench.trl.grpo.Grpo on these prompts."""
    rows = [{**prompt.row, "prompt": prompt.text, "answer": prompt.answer} for prompt in prompts]
    return Bare("bench.trl.grpo:Grpo", (cfg, rows, THREADS, str(scratch / "trl")), ENVIRONMENT, scratch / "logs/trl.log", python)


async def steps_in_turns(
    what: str, controller: Controller, trl: Bare, ours: int, theirs: int, pairs: int, target: Target | None = None
) -> Metric:
    """Return tokens/s in blocks of `ours` and `theirs` steps; the note has seconds per step."""

    async def our_block(k: int) -> Block:
        return await train_steps(controller, ours)

    def their_block(k: int) -> Block:
        return trl.call("steps", theirs)

    mine, others = await in_turns(our_block, their_block, pairs)
    our_s = sum(block.seconds for block in mine) / pairs / ours
    their_s = sum(block.seconds for block in others) / pairs / theirs
    note = f"{our_s:.2f} s a step against {their_s:.2f} s; {pairs} pairs of {ours} and {theirs} steps"
    return compared(what, mine, others, lambda block: block.rate, "tokens/s", f"TRL GRPOTrainer, {THREADS} threads", target, note)
