"""Rollouts side by side as tensors: what one forward pass of a policy needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uec.errors import BadInput
from uec.types import Kind, Rollout, Sample, Tokens


@dataclass(frozen=True, slots=True)
class Rows:
    """B rows padded on the right to L tokens, and the N response tokens in them, row after row.

    Right padding under a causal model needs no mask: what comes after a token does not reach it.
    """

    ids_BL: Tensor  # int64; 0 where padded
    row_N: Tensor  # row of each response token
    col_N: Tensor  # its position in the row; the hidden state before it, at col - 1, predicts it
    counts: list[int]  # response tokens of each row
    tokens: int  # prompt and response tokens of all rows

    def targets_N(self) -> Tensor:
        return self.ids_BL[self.row_N, self.col_N]

    def split(self, values_N: Tensor) -> list[NDArray[np.float32]]:
        """A copy of each row's part of a figure of all response tokens."""
        values = values_N.float().cpu().numpy()
        return [part.copy() for part in np.split(values, np.cumsum(self.counts)[:-1])] if self.counts else []


def pad(prompts: Sequence[Tokens], responses: Sequence[Tokens], device: torch.device) -> Rows:
    """Lay out prompts [P >= 1] with their responses [T]. No rows: one row of two tokens and no response token in it.

    A rank without rows still has to take part in the forward and backward passes of the others.
    """
    if not prompts:
        none_N = torch.zeros(0, dtype=torch.int64, device=device)
        return Rows(torch.zeros(1, 2, dtype=torch.int64, device=device), none_N, none_N, [], 0)
    starts_B = np.array([len(prompt) for prompt in prompts])
    counts_B = np.array([len(response) for response in responses])
    if not starts_B.all():
        raise BadInput("a prompt without tokens: nothing predicts its response's first; check data.template, or turn data.chat on")
    ids_BL = np.zeros((len(prompts), int((starts_B + counts_B).max())), dtype=np.int64)
    prompt_rows, prompt_cols = _places(np.zeros_like(starts_B), starts_B)
    rows, cols = _places(starts_B, counts_B)
    ids_BL[prompt_rows, prompt_cols] = np.concatenate(prompts)
    ids_BL[rows, cols] = np.concatenate(responses)
    ids, row_N, col_N = (torch.from_numpy(array).to(device) for array in (ids_BL, rows, cols))
    return Rows(ids, row_N, col_N, counts_B.tolist(), int((starts_B + counts_B).sum()))


def _places(starts_B: np.ndarray, counts_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each token where row b holds `counts_B[b]` tokens from column `starts_B[b]` on."""
    rows_N = np.repeat(np.arange(len(counts_B)), counts_B)
    first_B = np.cumsum(counts_B) - counts_B
    return rows_N, np.arange(len(rows_N)) + np.repeat(starts_B - first_B, counts_B)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows of a training batch with what the loss needs of each of their N response tokens."""

    rows: Rows
    advantages_N: Tensor
    temperatures_N: Tensor | None  # at which each was sampled; None: all at 1
    exploration_N: Tensor  # bool: of an exploration response
    right_N: Tensor  # bool: of a right response
    behaviour_N: Tensor  # the engine's log-probabilities of them
    stored_N: Tensor | None  # log-probabilities of the time of sampling (replay), NaN where there are none; None: none at all
    version_N: Tensor  # of the weights that sampled them


def collate(rollouts: Sequence[Rollout], samples: Sequence[Sample], device: torch.device) -> MicroBatch:
    """Tensors of a micro-batch on `device`, of rollouts with what the plan says of each; it may be empty."""
    counts_B = [len(rollout.tokens) for rollout in rollouts]

    def spread(values_B: Sequence[float], dtype: type = np.float32) -> Tensor:
        return torch.from_numpy(np.repeat(np.asarray(values_B, dtype=dtype), counts_B)).to(device)

    def joined(parts: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.empty(0, np.float32), *parts])).to(device)

    hot = any(rollout.temperature != 1.0 for rollout in rollouts)
    stored = any(rollout.old_logprobs is not None for rollout in rollouts)
    return MicroBatch(
        rows=pad([rollout.prompt_tokens for rollout in rollouts], [rollout.tokens for rollout in rollouts], device),
        advantages_N=spread([sample.advantage for sample in samples]),
        temperatures_N=spread([rollout.temperature for rollout in rollouts]) if hot else None,
        exploration_N=spread([rollout.kind == Kind.EXPLORATION for rollout in rollouts], np.bool_),
        right_N=spread([sample.right for sample in samples], np.bool_),
        behaviour_N=joined([rollout.logprobs for rollout in rollouts]),
        stored_N=joined([_stored(rollout) for rollout in rollouts]) if stored else None,
        version_N=spread([rollout.version for rollout in rollouts], np.int64),
    )


def _stored(rollout: Rollout) -> np.ndarray:
    return np.full(len(rollout.tokens), np.nan, np.float32) if rollout.old_logprobs is None else rollout.old_logprobs
