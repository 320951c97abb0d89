"""LearnerActor's tokens/s in a policy update against a bare PyTorch loop on the same rows.

The rows are the responses that the default run keeps of real rollouts by the initial model. Our side is timed as the Controller sees it,
which includes dealing the rows, the call, fetching the response batches, metrics, entropy and the comparison with the engine's
log-probabilities. The bare loop has the same tokens per micro-batch, threads and process environment, and a row for each response.
Tokens are those of prompts and responses without padding.
"""

import asyncio
import time
from pathlib import Path

from actors.driver.controller import Controller
from bench.bare import Bare
from bench.metric import Metric, Target, compared
from bench.rows import Row, Trained
from bench.run_actors import cpu_of, explore, prompts_of, run_actors
from bench.task import default_config
from bench.turns import Block, in_turns, total
from uec.algorithm.replay import admits
from uec.algorithm.retention import retain
from uec.errors import RunFailed
from uec.models.packing import plan
from uec.types import TrainingSample, Trajectory

PAIRS = 9
UPDATES = 3
"""Updates in a block, each on another batch."""

SAME_NORM = 1e-2
"""Largest relative difference of the two sides' gradient norms: beyond it they did different work."""


def measure(scratch: Path, pairs: int = PAIRS, updates: int = UPDATES) -> list[Metric]:
    return asyncio.run(_measure(scratch, pairs, updates))


async def _measure(scratch: Path, pairs: int, updates: int) -> list[Metric]:
    cfg = default_config()
    async with run_actors(cfg, scratch) as controller:
        environment = controller.supervisor.learners[0].spec.environment
        with Bare("bench.bare_loop:BareLoop", (cfg,), environment, scratch / "logs/bare_loop.log") as bare:
            await controller.weights.start()
            batches = [await _batch(controller, k) for k in range(updates)]
            micro_batches = [await _by_hand(controller, batch) for batch in batches]
            norms: list[tuple[float, float]] = []
            ours_norms: list[float] = []

            cpu = cpu_of(controller.supervisor.learners[0].handle)

            async def ours(k: int) -> Block:
                blocks = []
                for i, batch in enumerate(batches):
                    await controller.weights.sync()  # not timed; an update after it compares engine and learner, as in training
                    admitted = [admits(one, cfg) for one in batch]
                    begin, cpu_begin = time.perf_counter(), cpu()
                    updated = await controller.learners.update(batch, seed=i, admitted=admitted)
                    seconds, cpu_s = time.perf_counter() - begin, cpu() - cpu_begin
                    blocks.append(Block(seconds, sum(one.prompt_tokens + one.response_tokens for one in batch), cpu_s))
                    ours_norms.append(updated.metrics["policy/grad_norm"])
                return total(blocks)

            def theirs(k: int) -> Block:
                trained: list[Trained] = [bare.call("update", batch) for batch in micro_batches]
                norms.extend(zip(ours_norms[-len(trained) :], (one.norm for one in trained), strict=True))
                return total([one.block for one in trained])

            mine, bares = await in_turns(ours, theirs, pairs)
    _refuse_other_work(norms[:updates])
    rows = sum(map(len, batches)) / len(batches)
    return [
        compared(
            "LearnerActor.update",
            mine,
            bares,
            lambda block: block.rate,
            "tokens/s",
            "bare PyTorch loop",
            Target(0.85, at_most=False),
            f"{rows:.0f} rows and {mine[0].tokens / updates:.0f} tokens an update",
        )
    ]


async def _batch(controller: Controller, k: int) -> list[TrainingSample]:
    """Return the responses that the default run would train on in a step."""
    cfg = controller.cfg
    explored, _ = await explore(controller, prompts_of(controller.dataset, k, cfg.train.prompts_per_step))
    retained = retain(explored, cfg, controller.estimator)
    return [kept for prompt in retained for kept in prompt.kept]


async def _by_hand(controller: Controller, batch: list[TrainingSample]) -> list[list[Row]]:
    """Return the same responses with their tokens, in the learner's micro-batches."""
    response_batches = {reference: await reference for reference in {one.batch for one in batch}}
    trajectories: list[Trajectory] = [response_batches[one.batch][one.slot] for one in batch]
    [share] = plan(batch, 1, controller.cfg.learner.micro_batch_tokens, 1, 0)
    [micro_batches] = share.steps
    places = [[share.responses[i] for row in rows for i in row] for rows in micro_batches]
    return [[Row(trajectories[i].prompt_tokens, trajectories[i].tokens, batch[i].advantage) for i in rows] for rows in places]


def _refuse_other_work(norms: list[tuple[float, float]]) -> None:
    """Raise RunFailed if gradients differ on the first batches, where both sides have the same weights."""
    for ours, theirs in norms:
        if abs(ours - theirs) > SAME_NORM * theirs:
            raise RunFailed(f"the bare loop does not do the learner's work: gradient norms {ours:.4g} and {theirs:.4g} on the same rows")
