"""Tokens/s and memory of whole training steps against TRL's GRPOTrainer on the same checkpoint and prompts, on CPU.

TRL runs in a separate Python environment (environment.py). The first task is the default one, whose short responses of similar length are
the best case for TRL's static batches (default_task.py); the second has skewed response lengths (skewed.py). Tokens are generated tokens.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.metric import Metric


def measure(scratch: Path) -> "list[Metric]":
    # Here, because TRL's environment, which has no Ray, imports this package, too.
    from bench.trl import default_task, skewed

    return [*default_task.compare(scratch / "default"), *skewed.compare(scratch / "skewed")]
