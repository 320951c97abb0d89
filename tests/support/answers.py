"""A stand-in for a Supervisor: what its actors answer."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uec.tracking.tracker import Tracker
from uec.types import WeightUpdate


@dataclass
class Name:
    name: str


class NoImages:
    async def references(self, prompts: object) -> list[object]:
        return []


class NoTurns:
    """Stands in for DeviceTurns where nothing is shared."""

    of_engines, weights_lost = True, False

    async def to_sync(self) -> None: ...

    async def to_engines(self) -> None: ...

    async def to_learners(self) -> None: ...


@dataclass
class Answers:
    """`logprobs`: of each actor by its name; `checksums`: those of the engines; `digest`: the learner's."""

    logprobs: dict[str, list[np.ndarray]]
    checksums: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    learners: list[Any] = field(default_factory=lambda: [Name("learner-0")])
    images: NoImages = field(default_factory=NoImages)
    turns: NoTurns = field(default_factory=lambda: NoTurns())
    engines: list[Any] = field(default_factory=lambda: [Name("rollout-0"), Name("rollout-1")])
    update: WeightUpdate | None = None
    difficulty: Name = field(default_factory=lambda: Name("difficulty"))
    tracker: Tracker = field(default_factory=lambda: Tracker([]))

    async def call(self, slot: Name, method: str, *args: object) -> object:
        if method == "checksum":
            return self.checksums.get(slot.name, "")
        if method == "digest":
            return self.digest
        assert method == "logprobs"
        found = self.logprobs[slot.name]
        return (found, found) if slot.name.startswith("learner") else found


def answers(**logprobs: Iterable[float]) -> Answers:
    """Return the stand-in of actors that answer these log-probabilities, by name with _ in place of -."""
    return Answers({name.replace("_", "-"): [np.array(values)] for name, values in logprobs.items()})
