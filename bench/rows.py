"""Input of both sides of the learner's bench, and the result of the bare side. Imports nothing heavy."""

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
    """The time and tokens of an update, and the gradient norm before clipping."""

    block: Block
    norm: float
