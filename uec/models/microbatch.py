"""Rollouts as tensors: what the loss needs of each response token of a micro-batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uec.models.rows import Layout, Rows
from uec.types import ImageFeatures, Kind, Rollout, Sample


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows of a training batch with what the loss needs of each of their N response tokens, response after response."""

    rows: Rows
    advantages_N: Tensor
    temperatures_N: Tensor | None  # at which each was sampled; None: all at 1
    exploration_N: Tensor  # bool: of an exploration response
    right_N: Tensor  # bool: of a right response
    behaviour_N: Tensor  # the engine's log-probabilities of them
    stored_N: Tensor | None  # log-probabilities of the time of sampling (replay), NaN where there are none; None: none at all
    version_N: Tensor  # of the weights that sampled them


def collate(
    rows: Sequence[Sequence[int]], rollouts: Sequence[Rollout], samples: Sequence[Sample], layout: Layout, images: dict[int, ImageFeatures]
) -> MicroBatch:
    """Tensors of a micro-batch: `rows` of positions in `rollouts`, and in `samples`, which say what each is worth; it may be empty.

    `images` by prompt. Raises RunFailed where they do not fit a prompt's image tokens.
    """
    chosen = [i for row in rows for i in row]
    worth = [samples[i] for i in chosen]
    taken = [rollouts[i] for i in chosen]
    counts_B = [len(rollout.tokens) for rollout in taken]

    def spread(values_B: Sequence[float], dtype: type = np.float32) -> Tensor:
        return torch.from_numpy(np.repeat(np.asarray(values_B, dtype=dtype), counts_B)).to(layout.device)

    def joined(parts: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.empty(0, np.float32), *parts])).to(layout.device)

    hot = any(rollout.temperature != 1.0 for rollout in taken)
    stored = any(rollout.old_logprobs is not None for rollout in taken)
    return MicroBatch(
        rows=layout.rows([[rollouts[i] for i in row] for row in rows], images),
        advantages_N=spread([sample.advantage for sample in worth]),
        temperatures_N=spread([rollout.temperature for rollout in taken]) if hot else None,
        exploration_N=spread([rollout.kind == Kind.EXPLORATION for rollout in taken], np.bool_),
        right_N=spread([sample.right for sample in worth], np.bool_),
        behaviour_N=joined([rollout.logprobs for rollout in taken]),
        stored_N=joined([_stored(rollout) for rollout in taken]) if stored else None,
        version_N=spread([rollout.version for rollout in taken], np.int64),
    )


def _stored(rollout: Rollout) -> np.ndarray:
    return np.full(len(rollout.tokens), np.nan, np.float32) if rollout.old_logprobs is None else rollout.old_logprobs
