"""Prompts with their responses side by side as tensors: what one forward pass of a policy needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uec.errors import BadInput
from uec.models.attention import Blocks
from uec.models.vision import Vision
from uec.types import ImageFeatures, Tokens

PROMPT = 0
"""Segment of a row; its responses are 1, 2, ..."""


class Response(Protocol):
    """A `Rollout` or a `Continuation`."""

    @property
    def prompt(self) -> int: ...
    @property
    def prompt_tokens(self) -> Tokens: ...
    @property
    def tokens(self) -> Tokens: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """B rows padded on the right to L tokens, and the N response tokens in them, response after response.

    A row is a prompt and one or more responses to it, one behind the other: [prompt][response 1][response 2] ...
    With one response in each row nothing but causality is needed, and there are no blocks: what comes after a token does not reach it.
    """

    ids_BL: Tensor  # int64; 0 where padded
    row_N: Tensor  # row of each response token
    from_N: Tensor  # the position in it whose hidden state predicts the token: the prompt's last for each response's first
    col_N: Tensor  # the token's own position
    counts: list[int]  # tokens of each response
    tokens: int  # prompt and response tokens of all rows
    blocks: Blocks | None = None  # where responses share a row: each looks at the prompt and at itself
    positions: Tensor | None = None  # [B, L], or [3, B, L] with M-RoPE: each response goes on where the prompt ends; None: 0 .. L - 1
    images: dict[str, Tensor] = field(default_factory=dict)  # what the vision tower is given, on the CPU

    def targets_N(self) -> Tensor:
        return self.ids_BL[self.row_N, self.col_N]

    def response_N(self) -> Tensor:
        """The response of each token, 0 .. number of responses - 1."""
        counts = torch.tensor(self.counts, dtype=torch.int64, device=self.row_N.device)
        return torch.repeat_interleave(torch.arange(len(self.counts), device=self.row_N.device), counts)

    def split(self, values_N: Tensor) -> list[NDArray[np.float32]]:
        """A copy of each response's part of a figure of all response tokens."""
        values = values_N.float().cpu().numpy()
        return [part.copy() for part in np.split(values, np.cumsum(self.counts)[:-1])] if self.counts else []


@dataclass(frozen=True, slots=True)
class Layout:
    """How a policy's rows are laid out: `rows` is all that there is to it."""

    device: torch.device
    vision: Vision | None = None  # of a vision-language model

    def rows(self, rows: Sequence[Sequence[Response]], images: Mapping[int, ImageFeatures]) -> Rows:
        """Tensors of rows of responses to one prompt each. `images`: features by prompt, of those that have images.

        A rank without rows still has to take part in the forward and backward passes of the others, and a vision tower in that of
        each micro-batch: where they are lacking, a row without responses is added.
        """
        prompts = [row[0].prompt_tokens for row in rows]
        features = [images.get(row[0].prompt) for row in rows]
        if not all(len(tokens) for tokens in prompts):
            raise BadInput("a prompt without tokens: nothing predicts its response's first; check data.template, or turn data.chat on")
        if self.vision is not None:
            for row, found in zip(rows, features, strict=True):
                self.vision.check(row, found)
            if not any(features):
                prompts.append(self.vision.blank_tokens)
                features.append(self.vision.blank)
        elif not rows:
            prompts.append(np.zeros(2, np.int32))
            features.append(None)
        return self._fill(prompts, [[response.tokens for response in row] for row in rows], features)

    def _fill(self, prompts: list[Tokens], responses: list[list[Tokens]], features: list[ImageFeatures | None]) -> Rows:
        responses += [[] for _ in prompts[len(responses) :]]
        places = _Places.of(prompts, responses)
        ids_BL = np.zeros(places.shape, np.int64)
        ids_BL[places.row_T, places.col_T] = np.concatenate(_pieces(prompts, responses))
        answers_T = places.segment_T != PROMPT
        row_N, col_N = places.row_T[answers_T], places.col_T[answers_T]
        last_B = np.array([len(prompt) - 1 for prompt in prompts])
        from_N = np.where(places.offset_T[answers_T] == 0, last_B[row_N], col_N - 1)
        shared = max(sum(len(response) > 0 for response in row) for row in responses) > 1
        ids, rows, froms, cols = (torch.from_numpy(array).to(self.device) for array in (ids_BL, row_N, from_N, col_N))
        return Rows(
            ids, rows, froms, cols,
            counts=[len(response) for row in responses for response in row],
            tokens=len(places.row_T),
            blocks=places.blocks(self.device) if shared else None,
            positions=self._positions(places, prompts, features, shared),
            images={} if self.vision is None else self.vision.inputs([found for found in features if found is not None]),
        )  # fmt: skip

    def _positions(self, places: "_Places", prompts: list[Tokens], features: list[ImageFeatures | None], shared: bool) -> Tensor | None:
        """[B, L], or [3, B, L] where a prompt has positions of its own; None where a token's position is its place in the row."""
        own = [None] * len(prompts) if self.vision is None else list(map(self.vision.positions, prompts, features))
        if not shared and all(found is None for found in own):
            return None
        prompts_CP = [np.arange(len(prompt))[None] if found is None else found for prompt, found in zip(prompts, own, strict=True)]
        next_B = np.array([found.max() + 1 for found in prompts_CP])  # where each response goes on
        positions_CBL = np.zeros((max(map(len, prompts_CP)), *places.shape), np.int64)
        positions_CBL[:, places.row_T, places.col_T] = places.offset_T + next_B[places.row_T]
        for row, found in enumerate(prompts_CP):
            positions_CBL[:, row, : found.shape[1]] = found
        return torch.from_numpy(positions_CBL if len(positions_CBL) > 1 else positions_CBL[0]).to(self.device)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where each of the T tokens of all rows stands, row after row and piece after piece: a prompt, then its responses."""

    shape: tuple[int, int]  # (B, L)
    row_T: NDArray[np.int64]
    col_T: NDArray[np.int64]
    segment_T: NDArray[np.int64]  # PROMPT, or the number of the response in its row, from 1
    offset_T: NDArray[np.int64]  # in its piece

    @classmethod
    def of(cls, prompts: list[Tokens], responses: list[list[Tokens]]) -> "_Places":
        sizes_S = np.array(list(map(len, _pieces(prompts, responses))))
        segment_S = np.concatenate([np.arange(1 + len(row)) for row in responses])
        row_S = np.repeat(np.arange(len(prompts)), [1 + len(row) for row in responses])
        begin_S = np.cumsum(sizes_S) - sizes_S  # counted over all tokens
        row_T = np.repeat(row_S, sizes_S)
        number_T = np.arange(len(row_T))
        col_T = number_T - begin_S[segment_S == PROMPT][row_T]
        shape = (len(prompts), int(col_T.max()) + 1)
        return cls(shape, row_T, col_T, np.repeat(segment_S, sizes_S), number_T - np.repeat(begin_S, sizes_S))

    def blocks(self, device: torch.device) -> Blocks:
        starts_T = self.offset_T == 0
        sizes_S = np.diff(np.flatnonzero(starts_T), append=len(self.offset_T))
        prompt_S, row_S, col_S = self.segment_T[starts_T] == PROMPT, self.row_T[starts_T], self.col_T[starts_T]
        return Blocks.of(self.shape, sizes_S[prompt_S], row_S[~prompt_S], col_S[~prompt_S], sizes_S[~prompt_S], device)


def _pieces(prompts: list[Tokens], responses: list[list[Tokens]]) -> list[Tokens]:
    return [piece for prompt, row in zip(prompts, responses, strict=True) for piece in (prompt, *row)]
