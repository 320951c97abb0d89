"""Tokens/s of whole training steps against TRL's GRPOTrainer on the same checkpoint and prompts, on CPU.

TRL runs in an environment of its own (environment.py), with two threads; ours as by default: an engine and a learner with a thread
each, at work in turns. Once with the default algorithm, whose steps also explore and replay, and once with `algorithm=grpo`, which
does what TRL does, except that it leaves out responses without an advantage. Tokens are those generated. No target: the ratio as it is.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.figure import Figure


def measure(scratch: Path) -> "list[Figure]":
    from bench.trl.compare import compare  # here, because TRL's environment, which has no Ray, imports this package, too

    return compare(scratch)
