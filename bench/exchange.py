"""The whole weight sync of the default model: the learner publishes, the engine checks and loads."""

import asyncio
from pathlib import Path
from statistics import median

from bench.metric import Metric, Target
from bench.run_actors import run_actors
from bench.task import default_config

SYNCS = 30
TARGET_MS = 50.0


def measure(scratch: Path, syncs: int = SYNCS) -> list[Metric]:
    return asyncio.run(_measure(scratch, syncs))


async def _measure(scratch: Path, syncs: int) -> list[Metric]:
    async with run_actors(default_config(), scratch) as controller:
        await controller.weights.start()
        done = [await controller.weights.sync() for _ in range(syncs)]
    milliseconds = [1e3 * one.seconds for one in done]
    return [
        Metric(
            "publish and update_weights, no probe",
            median(milliseconds),
            "ms",
            Target(TARGET_MS),
            note=f"{done[0].nbytes / 1e6:.1f} MB, median of {syncs}, {min(milliseconds):.0f} to {max(milliseconds):.0f} ms",
        )
    ]
