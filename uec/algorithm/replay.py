"""The entropy stabiliser's memory (2604.14646): what enters it, when it is used, and a uniform draw from it."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from uec.config.schema import ReplayConfig
from uec.types import Kind, TrainingSample, Trajectory

STREAM = 2
"""Keeps the draws' random numbers apart from others that are seeded with `run.seed`."""


def admits(sample: TrainingSample, replay: ReplayConfig) -> bool:
    """A > A_0, of a kind that `replay.source` lets in."""
    wanted = replay.source == "all" or sample.kind == Kind.EXPLORATION
    return replay.enabled and wanted and sample.advantage > replay.min_advantage


def is_due(step: int, size: int, replay: ReplayConfig) -> bool:
    """Every `replay.every` steps, counted from 1, once the store holds `replay.min_rows`."""
    return replay.enabled and step % replay.every == 0 and size >= replay.min_rows


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored response."""

    trajectory: Trajectory
    advantage: float  # in the group it was sampled in
    step: int  # at which it was admitted


class ReplayStore:
    """The newest s' entries, oldest first."""

    def __init__(self, capacity: int, seed: int):
        self.entries: deque[Entry] = deque(maxlen=capacity)
        self.rng = np.random.default_rng([seed, STREAM])

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry) -> None:
        """The oldest entry makes room where the store is full."""
        self.entries.append(entry)

    def draw(self, n: int, step: int, replay: ReplayConfig) -> list[Entry]:
        """n entries that are at most `replay.max_age` steps old, or all where there are fewer; they stay in the store.

        Without replacement, by `replay.draw`: uniformly (as released), in proportion to the advantage, or the newest.
        """
        young = [entry for entry in self.entries if replay.max_age is None or step - entry.step <= replay.max_age]
        n = min(n, len(young))
        if n == 0:
            return []
        if replay.draw == "newest":
            return young[-n:]
        chances = None
        if replay.draw == "advantage":
            advantages = np.array([entry.advantage for entry in young])
            chances = advantages / advantages.sum()
        chosen = self.rng.choice(len(young), size=n, replace=False, p=chances)
        return [young[i] for i in chosen]

    def rng_state(self) -> dict[str, Any]:
        """JSON: with the entries in their order, all that the next draws depend on."""
        return dict(self.rng.bit_generator.state)

    def load(self, entries: list[Entry], rng_state: dict[str, Any]) -> None:
        """Take up where `entries` and `rng_state` left off. A smaller capacity keeps the newest."""
        self.entries.clear()
        self.entries.extend(entries)
        self.rng.bit_generator.state = rng_state
