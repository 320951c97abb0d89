"""Whole training steps as a block that can take turns with another."""

import time

from actors.driver.controller import Controller
from bench.turns import Block

ENDLESS = 1_000_000
AHEAD = ("train.max_staleness=1",)
"""The default run rolled one step ahead: engine and learner compute at the same time, with a core each."""


def in_blocks_of(steps: int) -> tuple[str, str]:
    """Overrides for a run that is measured in blocks of so many steps.

    A block ends like a run's stretch up to a checkpoint: no rollouts are begun beyond it. So with `train.max_staleness` above 0
    engine and learner have nothing to do while the other side has its turn, and a block's time holds filling up and draining:
    its first rollouts are made while nothing is learned, its last update while nothing is generated.
    """
    return f"checkpoint.every={steps}", f"train.steps={ENDLESS}"


async def train_steps(controller: Controller, steps: int) -> Block:
    """Go on for some steps. Seconds are those on the clock, for steps may overlap; tokens those generated in them."""
    begin, tokens = time.perf_counter(), 0
    for _ in range(steps):
        metrics = await controller.step(controller.steps_done + 1)
        controller.steps_done += 1
        tokens += int(metrics["rollout/tokens"])
    return Block(time.perf_counter() - begin, tokens)
