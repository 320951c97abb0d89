"""The tensors of one forward pass: prompts with their responses in rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uec.errors import BadInput
from uec.models.attention import Blocks, Pieces
from uec.models.vision import Vision
from uec.types import ImageFeatures, Mask, Tokens

Ints = NDArray[np.int64]


class Response(Protocol):
    """A `Trajectory` or a `Continuation`."""

    @property
    def prompt(self) -> int: ...
    @property
    def prompt_tokens(self) -> Tokens: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def generated(self) -> Mask | None:
        """Which tokens count as response tokens; None: all."""


@dataclass(frozen=True, slots=True)
class Rows:
    """B rows of L tokens, and the N response tokens in them, response after response.

    Packed, all prompts and responses form one row: [prompt][response 1][response 2] ... [prompt] ...
    Otherwise each row is a prompt and one response, padded on the right; causal attention is then sufficient and there are no pieces.
    """

    ids_BL: Tensor  # int64; 0 where padded
    row_N: Tensor  # row of each response token
    from_N: Tensor  # column whose hidden state predicts the token: for a response's first token, the prompt's last
    col_N: Tensor  # column of the token
    counts: list[int]  # response tokens of each response
    tokens: int  # prompt and response tokens of all rows
    pieces: Pieces | None = None  # of a packed row: each response attends to its prompt and itself
    positions: Tensor | None = None  # [B, L], or [3, B, L] with M-RoPE: each response continues from its prompt's end; None: 0 .. L - 1
    images: dict[str, Tensor] = field(default_factory=dict)  # inputs of the vision tower, on the CPU

    def targets_N(self) -> Tensor:
        return self.ids_BL[self.row_N, self.col_N]

    def response_N(self) -> Tensor:
        """Return the index of each token's response, 0 .. number of responses - 1."""
        counts = torch.tensor(self.counts, dtype=torch.int64, device=self.row_N.device)
        return torch.repeat_interleave(torch.arange(len(self.counts), device=self.row_N.device), counts)

    def split(self, values_N: Tensor) -> list[NDArray[np.float32]]:
        """Return a copy of each response's part of values over all response tokens."""
        values = values_N.float().cpu().numpy()
        return [part.copy() for part in np.split(values, np.cumsum(self.counts)[:-1])] if self.counts else []


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a policy's rows."""

    device: torch.device
    packed: bool  # False: one response per row
    vision: Vision | None = None  # of a vision-language model
    pieces: type[Pieces] = Blocks  # how packed rows attend

    def rows(self, rows: Sequence[Sequence[Response]], images: Mapping[int, ImageFeatures]) -> Rows:
        """Return the tensors of `rows`, each a list of responses to one prompt. `images`: features of prompts with images, by prompt.

        A rank without rows must still take part in the other ranks' forward and backward passes, and so must the vision tower in each
        micro-batch. Where rows or images are missing, this adds a row without responses.
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
        generated = [response.generated for row in rows for response in row]
        return self._fill(prompts, [[response.tokens for response in row] for row in rows], features, generated)

    def _fill(
        self, prompts: list[Tokens], responses: list[list[Tokens]], features: list[ImageFeatures | None], generated: list[Mask | None]
    ) -> Rows:
        assert self.packed or all(len(row) <= 1 for row in responses), "only packed rows are shared"
        responses += [[] for _ in prompts[len(responses) :]]
        places = _Places.of(prompts, responses, self.packed)
        ids_BL = np.zeros(places.shape, np.int64)
        ids_BL[places.row_T, places.col_T] = np.concatenate(_pieces(prompts, responses))
        answers_T = ~places.prompt_T
        counts = [len(response) for row in responses for response in row]
        if any(mask is not None for mask in generated):  # observations are read, and have no log-probabilities
            masks = [np.ones(count, np.bool_) if mask is None else mask for count, mask in zip(counts, generated, strict=True)]
            answers_T[answers_T] = np.concatenate(masks)
            counts = [int(mask.sum()) for mask in masks]
        row_N, col_N = places.row_T[answers_T], places.col_T[answers_T]
        from_N = np.where(places.offset_T[answers_T] == 0, places.last_T[answers_T], col_N - 1)
        ids, rows, froms, cols = (torch.from_numpy(array).to(self.device) for array in (ids_BL, row_N, from_N, col_N))
        return Rows(
            ids, rows, froms, cols,
            counts=counts,
            tokens=len(places.row_T),
            pieces=self.pieces.of(*places.pieces, self.device) if self.packed else None,
            positions=self._positions(places, prompts, features),
            images={} if self.vision is None else self.vision.inputs([found for found in features if found is not None]),
        )  # fmt: skip

    def _positions(self, places: "_Places", prompts: list[Tokens], features: list[ImageFeatures | None]) -> Tensor | None:
        """Return positions [B, L], or [3, B, L] if a prompt has M-RoPE positions; None where a token's position is its column."""
        mrope = [None] * len(prompts) if self.vision is None else list(map(self.vision.positions, prompts, features))
        if not self.packed and all(found is None for found in mrope):
            return None
        prompts_CP = [np.arange(len(prompt))[None] if found is None else found for prompt, found in zip(prompts, mrope, strict=True)]
        next_G = np.array([found.max() + 1 for found in prompts_CP])  # first position of each response
        axes = max(map(len, prompts_CP))
        positions_CT = np.broadcast_to(places.offset_T + next_G[places.group_T], (axes, len(places.offset_T))).copy()
        positions_CT[:, places.prompt_T] = np.concatenate([np.broadcast_to(found, (axes, found.shape[1])) for found in prompts_CP], 1)
        positions_CBL = np.zeros((axes, *places.shape), np.int64)
        positions_CBL[:, places.row_T, places.col_T] = positions_CT
        return torch.from_numpy(positions_CBL if axes > 1 else positions_CBL[0]).to(self.device)


@dataclass(frozen=True, slots=True)
class _Places:
    """The place of each of T tokens, in the order of groups; a group is a prompt and then its responses, each of which is a piece."""

    shape: tuple[int, int]  # (B, L)
    row_T: Ints
    col_T: Ints
    group_T: Ints  # index of the prompt
    prompt_T: NDArray[np.bool_]  # True for a prompt's tokens
    offset_T: Ints  # index in the piece
    last_T: Ints  # column of the prompt's last token
    pieces: tuple[Ints, Ints, Ints]  # of each piece: first token, length, index of the prompt's piece

    @classmethod
    def of(cls, prompts: list[Tokens], responses: list[list[Tokens]], packed: bool) -> "_Places":
        size_S = np.array(list(map(len, _pieces(prompts, responses))))
        group_S = np.repeat(np.arange(len(prompts)), [1 + len(row) for row in responses])
        first_G = np.flatnonzero(np.diff(group_S, prepend=-1))  # index of the prompt among the pieces
        begin_S = np.cumsum(size_S) - size_S
        is_prompt_S = np.isin(np.arange(len(size_S)), first_G)
        piece_T = np.repeat(np.arange(len(size_S)), size_S)
        group_T, number_T = group_S[piece_T], np.arange(len(piece_T))
        start_T = 0 if packed else begin_S[first_G][group_T]  # start of the row
        col_T = number_T - start_T
        return cls(
            shape=(1 if packed else len(prompts), int(col_T.max()) + 1),
            row_T=np.zeros_like(group_T) if packed else group_T,
            col_T=col_T,
            group_T=group_T,
            prompt_T=is_prompt_S[piece_T],
            offset_T=number_T - begin_S[piece_T],
            last_T=(begin_S + size_S)[first_G][group_T] - 1 - start_T,
            pieces=(begin_S, size_S, first_G[group_S]),
        )


def _pieces(prompts: list[Tokens], responses: list[list[Tokens]]) -> list[Tokens]:
    return [piece for prompt, row in zip(prompts, responses, strict=True) for piece in (prompt, *row)]
