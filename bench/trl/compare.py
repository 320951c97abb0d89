"""Our training steps and TRL's in turns."""

import asyncio
from pathlib import Path

from bench.bare import Bare
from bench.crew import crew
from bench.figure import Figure, compared
from bench.task import default_config
from bench.trl.environment import ready
from bench.turns import Block, in_turns

PAIRS = 6
THREADS = 2
ALGORITHMS = ("uec", "grpo")


def compare(scratch: Path, pairs: int = PAIRS) -> list[Figure]:
    """A figure for each of ALGORITHMS; the environment is made if it is not there."""
    python = ready()
    return [asyncio.run(_measure(algorithm, python, scratch / algorithm, pairs)) for algorithm in ALGORITHMS]


async def _measure(algorithm: str, python: Path, scratch: Path, pairs: int) -> Figure:
    cfg = default_config(f"algorithm={algorithm}")
    steps = cfg.replay.every  # so that every block has one replay update
    environment = {"OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    async with crew(cfg, scratch) as controller:
        rows = [{**prompt.row, "prompt": prompt.text, "answer": prompt.answer} for prompt in controller.dataset.train]
        arguments = (cfg, rows, THREADS, str(scratch / "trl"))
        with Bare("bench.trl.grpo:Grpo", arguments, environment, scratch / "logs/trl.log", python) as trl:
            await controller.exchange.start()

            async def ours(k: int) -> Block:
                seconds, tokens = 0.0, 0
                for _ in range(steps):
                    metrics = await controller.step(controller.steps_done + 1)
                    controller.steps_done += 1
                    seconds += metrics["time/step_s"]
                    tokens += int(metrics["rollout/tokens"])
                return Block(seconds, tokens)

            def theirs(k: int) -> Block:
                return trl.call("steps", steps)

            mine, others = await in_turns(ours, theirs, pairs)
    step_s = sum(block.seconds for block in mine) / pairs / steps
    other_s = sum(block.seconds for block in others) / pairs / steps
    return compared(
        f"algorithm={algorithm}",
        mine,
        others,
        lambda block: block.rate,
        "tokens/s",
        f"TRL GRPOTrainer, {THREADS} threads",
        note=f"{step_s:.2f} s a step against {other_s:.2f} s",
    )
