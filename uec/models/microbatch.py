"""The tensors of a micro-batch: its rows, and what the loss needs of each response token."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uec.models.rows import Layout, Rows
from uec.types import ImageFeatures, Kind, Trajectory, UpdatePlan


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows of a training batch, and the values that the loss needs for each of their N response tokens, in the order of responses."""

    rows: Rows
    advantages_N: Tensor
    temperatures_N: Tensor | None  # sampling temperatures; None: all are 1
    exploration_N: Tensor  # bool: in an exploration response
    right_N: Tensor  # bool: in a right response
    behaviour_N: Tensor  # the engine's log-probabilities
    stored_N: Tensor | None  # old log-probabilities from the replay store, NaN where there are none; None: no stored ones
    version_N: Tensor  # version of the weights that sampled each token


def collate(
    rows: Sequence[Sequence[int]], trajectories: Sequence[Trajectory], plan: UpdatePlan, layout: Layout, images: dict[int, ImageFeatures]
) -> MicroBatch:
    """Make the tensors of a micro-batch: `rows` of positions in `trajectories`, and in the plan's columns. There may be no rows.

    `images`: features by prompt. Raises RunFailed if they do not fit a prompt's image tokens.
    """
    chosen = [i for row in rows for i in row]
    taken = [trajectories[i] for i in chosen]
    packed = layout.rows([[trajectories[i] for i in row] for row in rows], images)

    def spread(values_B: Sequence[float], dtype: type = np.float32) -> Tensor:
        return torch.from_numpy(np.repeat(np.asarray(values_B, dtype=dtype), packed.counts)).to(layout.device)

    def joined(parts: Sequence[np.ndarray], dtype: type = np.float32) -> Tensor:
        return torch.from_numpy(np.concatenate([np.empty(0, dtype), *parts])).to(layout.device)

    hot = any(trajectory.temperature != 1.0 for trajectory in taken)
    stored = any(trajectory.old_logprobs is not None for trajectory in taken)
    one_version = all(len(trajectory.versions) == 1 for trajectory in taken)
    return MicroBatch(
        rows=packed,
        advantages_N=spread([plan.advantages[i] for i in chosen]),
        temperatures_N=spread([trajectory.temperature for trajectory in taken]) if hot else None,
        exploration_N=spread([trajectory.kind == Kind.EXPLORATION for trajectory in taken], np.bool_),
        right_N=spread([plan.right[i] for i in chosen], np.bool_),
        behaviour_N=joined([_generated(trajectory, trajectory.logprobs) for trajectory in taken]),
        stored_N=joined([_generated(trajectory, _stored(trajectory)) for trajectory in taken]) if stored else None,
        version_N=spread([trajectory.version for trajectory in taken], np.int64)
        if one_version
        else joined([_generated(trajectory, trajectory.version_T()) for trajectory in taken], np.int64),
    )


def behaviour_and_advantages(
    rows: Sequence[Sequence[int]], trajectories: Sequence[Trajectory], plan: UpdatePlan
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the `behaviour_N` and `advantages_N` of the micro-batch that `collate` makes of these rows, in host memory."""
    chosen = [i for row in rows for i in row]
    behaviour = [_generated(trajectories[i], trajectories[i].logprobs) for i in chosen]
    advantages = np.repeat(np.array([plan.advantages[i] for i in chosen], np.float32), [len(values_T) for values_T in behaviour])
    return np.concatenate([np.empty(0, np.float32), *behaviour]), advantages


def _generated(trajectory: Trajectory, values_T: np.ndarray) -> np.ndarray:
    return values_T if trajectory.generated is None else values_T[trajectory.generated]


def _stored(trajectory: Trajectory) -> np.ndarray:
    return np.full(len(trajectory.tokens), np.nan, np.float32) if trajectory.old_logprobs is None else trajectory.old_logprobs
