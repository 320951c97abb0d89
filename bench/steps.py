"""Blocks of whole training steps, which take turns with other blocks."""

import time

from actors.driver.controller import Controller
from bench.turns import Block

ENDLESS = 1_000_000
AHEAD = ("train.max_staleness=1",)
"""The default run with rollouts one step ahead: engine and learner compute at the same time, with one core each."""


def in_blocks_of(steps: int) -> tuple[str, str]:
    """Return overrides for a run that is measured in blocks of `steps` steps.

    A block ends as before a checkpoint: no rollouts begin for later steps. So with `train.max_staleness` above 0 engine and learner are
    idle during the other side's turn, and a block's time includes filling up and draining: nothing is learned during its first rollouts,
    and nothing is generated during its last update.
    """
    return f"checkpoint.every={steps}", f"train.steps={ENDLESS}"


async def train_steps(controller: Controller, steps: int) -> Block:
    """Run `steps` more steps; return wall-clock seconds, because steps may overlap, and generated tokens."""
    begin, tokens = time.perf_counter(), 0
    for _ in range(steps):
        metrics = await controller.step(controller.steps_done + 1)
        controller.steps_done += 1
        tokens += int(metrics["rollout/tokens"])
    return Block(time.perf_counter() - begin, tokens)
