"""The whole weight exchange of the default model: published by the learner, checked and taken by the engine."""

import asyncio
from pathlib import Path
from statistics import median

from bench.crew import crew
from bench.figure import Figure, Target
from bench.task import default_config

EXCHANGES = 30
TARGET_MS = 50.0


def measure(scratch: Path, exchanges: int = EXCHANGES) -> list[Figure]:
    return asyncio.run(_measure(scratch, exchanges))


async def _measure(scratch: Path, exchanges: int) -> list[Figure]:
    async with crew(default_config(), scratch) as controller:
        await controller.exchange.start()
        done = [await controller.exchange.publish() for _ in range(exchanges)]
    milliseconds = [1e3 * one.seconds for one in done]
    return [
        Figure(
            "publish and update_weights, no probe",
            median(milliseconds),
            "ms",
            Target(TARGET_MS),
            note=f"{done[0].nbytes / 1e6:.1f} MB, median of {exchanges}, {min(milliseconds):.0f} to {max(milliseconds):.0f} ms",
        )
    ]
