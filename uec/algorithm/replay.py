"""The replay store of the entropy stabiliser (2604.14646): admission, the steps that use it, and draws from it."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from uec.algorithm.retention import rewarded_but_wrong
from uec.config.schema import Config, ReplayConfig
from uec.types import Kind, TrainingSample, Trajectory

STREAM = 2
"""Separates the draws' random numbers from others that are seeded with `run.seed`."""


def admits(sample: TrainingSample, cfg: Config) -> bool:
    """Return whether the store takes a sample: by its kind, its advantage, and, if that is positive, by `retention.positive`.

    Paper: A > A_0. Released code: |A| > A_0 (`replay.admit: both`).
    """
    replay = cfg.replay
    wanted = replay.source == "all" or sample.kind == Kind.EXPLORATION
    advantage = abs(sample.advantage) if replay.admit == "both" else sample.advantage
    return replay.enabled and wanted and advantage > replay.min_advantage and not rewarded_but_wrong(sample, sample.advantage, cfg)


def is_due(step: int, size: int, replay: ReplayConfig) -> bool:
    """Return whether `step` (from 1) is a multiple of `replay.every` and the store holds at least `replay.min_rows`."""
    return replay.enabled and step % replay.every == 0 and size >= replay.min_rows


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored response."""

    trajectory: Trajectory
    advantage: float  # within its group at the time of sampling
    step: int  # at which it was admitted


class ReplayStore:
    """The newest s' entries, oldest first."""

    def __init__(self, capacity: int, seed: int):
        self.entries: deque[Entry] = deque(maxlen=capacity)
        self.rng = np.random.default_rng([seed, STREAM])

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry) -> None:
        """Add an entry; a full store drops its oldest one."""
        self.entries.append(entry)

    def draw(self, n: int, step: int, replay: ReplayConfig) -> list[Entry]:
        """Return n entries that are at most `replay.max_age` steps old, or all if there are fewer; they stay in the store.

        Draws without replacement, by `replay.draw`: uniformly (released code), in proportion to |A|, or the newest.
        """
        young = [entry for entry in self.entries if replay.max_age is None or step - entry.step <= replay.max_age]
        n = min(n, len(young))
        if n == 0:
            return []
        if replay.draw == "newest":
            return young[-n:]
        chances = None
        if replay.draw == "advantage":
            advantages = np.abs([entry.advantage for entry in young])
            chances = advantages / advantages.sum()
        chosen = self.rng.choice(len(young), size=n, replace=False, p=chances)
        return [young[i] for i in chosen]

    def rng_state(self) -> dict[str, Any]:
        """Return the random state, as JSON types. The next draws depend only on it and on the entries in their order."""
        return dict(self.rng.bit_generator.state)

    def load(self, entries: list[Entry], rng_state: dict[str, Any]) -> None:
        """Restore entries and random state. A smaller capacity keeps the newest entries."""
        self.entries.clear()
        self.entries.extend(entries)
        self.rng.bit_generator.state = rng_state
