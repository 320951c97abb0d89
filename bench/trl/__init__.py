"""Tokens/s and memory of whole training steps against TRL's GRPOTrainer on the same checkpoint and prompts, on CPU.

TRL runs in an environment of its own (environment.py). First the default task, whose short and equal responses are the best case for
TRL's static batches (default_task.py), then responses of skewed lengths (skewed.py). Tokens are those generated.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.figure import Figure


def measure(scratch: Path) -> "list[Figure]":
    # Here, because TRL's environment, which has no Ray, imports this package, too.
    from bench.trl import default_task, skewed

    return [*default_task.compare(scratch / "default"), *skewed.compare(scratch / "skewed")]
