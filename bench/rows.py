"""What both sides of the learner's bench are given, and what the bare one gives back. Imports nothing heavy."""

from dataclasses import dataclass

from bench.turns import Block
from uec.types import Tokens


@dataclass(frozen=True, slots=True)
class Row:
    """A response to train on."""

    prompt: Tokens  # [P]
    response: Tokens  # [T]
    advantage: float


@dataclass(frozen=True, slots=True)
class Trained:
    """What an update took, and its gradient's norm before clipping."""

    block: Block
    norm: float
