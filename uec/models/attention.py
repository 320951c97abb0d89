"""Attention of packed rows: prompts and responses of a micro-batch stand in one row without padding, each response behind its prompt's.

A prompt looks at itself, a response at its prompt and at itself. A mask over the row would do, and would cost its square, most of it for
pairs that do not look at each other. Here pieces of like length attend side by side, each to its own keys. A response is one of two
kinds of piece: masked, where its tokens ask and those of the prompt are only looked at; or joined, where it is so much longer that this
costs less: the prompt's tokens ask once more before it, and no mask is needed, for the whole is causal.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uec.models.source import full_attention

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NAME = "uec_blocks"
"""As transformers knows it."""

SHORTEST = 16
"""Pieces are padded to the longest of those that are at most a sixth shorter, or have at most so many tokens."""

CAUSAL_PAYS = 64
"""A response so many tokens longer than its prompt is joined: kernels skip what is above a causal square's diagonal, in blocks so wide."""


@dataclass(frozen=True, slots=True)
class Block:
    """S pieces of at most T tokens, and the K keys of each, by their places in the row."""

    query_ST: Tensor  # 0 where padded
    key_SK: Tensor
    mask_S1TK: Tensor | None  # bool; None: causal, and keys are queries


@dataclass(frozen=True, slots=True)
class Blocks:
    """All pieces of a row of N tokens."""

    blocks: list[Block]
    place_N: Tensor  # of each token among all S * T of the blocks

    @classmethod
    def of(cls, begin_S: Ints, size_S: Ints, prompt_S: Ints, device: torch.device) -> "Blocks":
        """Of pieces by first token and length; `prompt_S`: the piece that is its prompt, for a prompt itself."""
        before_S = np.where(prompt_S == np.arange(len(prompt_S)), 0, size_S[prompt_S])
        causal_S = (before_S == 0) | (size_S > before_S + CAUSAL_PAYS)
        place_N = np.zeros(int(size_S.sum()), np.int64)
        blocks, done = [], 0
        for chosen, causal in _alike(np.where(causal_S, before_S + size_S, size_S), causal_S, size_S > 0):
            prompt_SP, there_SP = _places(begin_S[prompt_S[chosen]], before_S[chosen])
            place_ST, own_ST = _places(begin_S[chosen], size_S[chosen])
            if causal:
                place_ST, own_ST = _joined(prompt_SP, there_SP, place_ST, own_ST)
                key_SK, mask_S1TK = place_ST, None
            else:
                key_SK, mask_S1TK = np.concatenate([prompt_SP, place_ST], 1), _mask(there_SP, place_ST.shape[1])
            place_N[place_ST[own_ST]] = done + np.flatnonzero(own_ST)
            done += own_ST.size
            mask = None if mask_S1TK is None else torch.from_numpy(mask_S1TK).to(device)
            blocks.append(Block(torch.from_numpy(place_ST).to(device), torch.from_numpy(key_SK).to(device), mask))
        return cls(blocks, torch.from_numpy(place_N).to(device))


def _alike(length_S: Ints, causal_S: Bools, there_S: Bools) -> Iterator[tuple[Ints, bool]]:
    """Pieces of one kind and of like length, and whether they are causal."""
    quarter_S = np.ceil(4 * np.log2(np.maximum(length_S, SHORTEST)))
    for causal in (True, False):
        of_kind_S = there_S & (causal_S == causal)
        for length in np.unique(quarter_S[of_kind_S]):
            yield np.flatnonzero(of_kind_S & (quarter_S == length)), causal


def _places(begin_S: Ints, size_S: Ints) -> tuple[Ints, Bools]:
    """Places of the pieces' tokens [S, T], 0 where padded; and where they are not."""
    offset_T = np.arange(int(size_S.max()))
    own_ST = offset_T[None] < size_S[:, None]
    return np.where(own_ST, begin_S[:, None] + offset_T, 0), own_ST


def _joined(prompt_SP: Ints, there_SP: Bools, place_ST: Ints, own_ST: Bools) -> tuple[Ints, Bools]:
    """Each prompt with its response right behind it, padded at the end; and where the response is."""
    order = np.argsort(~np.concatenate([there_SP, own_ST], 1), axis=1, kind="stable")
    T = int((there_SP.sum(1) + own_ST.sum(1)).max())
    both = np.concatenate([prompt_SP, place_ST], 1), np.concatenate([np.zeros_like(there_SP), own_ST], 1)
    places, own = (np.take_along_axis(array, order, 1)[:, :T] for array in both)
    return np.ascontiguousarray(places), np.ascontiguousarray(own)


def _mask(there_SP: Bools, T: int) -> Bools:
    """[S, 1, T, P + T]: all of the prompt, and of a response what is not behind."""
    shape = (len(there_SP), T, there_SP.shape[1])
    tril_STT = np.broadcast_to(np.tri(T, dtype=bool), (len(there_SP), T, T))
    return np.concatenate([np.broadcast_to(there_SP[:, None], shape), tril_STT], 2)[:, None]


def takes_blocks(hf: Any) -> bool:
    """Whether a transformers model's layers all look back without bounds, and leave attention to a function of ours."""
    return full_attention(hf.config) and bool(getattr(hf, "_supports_attention_backend", False))


def use_blocks(hf: Any) -> None:
    """Have a transformers model of which `takes_blocks` holds take `blocks=` in its forward pass."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)  # no row is padded on the left, so causality is enough
    hf.config.get_text_config()._attn_implementation = NAME


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, blocks: Blocks | None = None, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' interface: query [B, H, L, D], key and value of fewer heads; to [B, L, H, D].

    With blocks there is one row; without, rows are causal.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if blocks is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    query_NHD, key_NHD, value_NHD = (states[0].transpose(0, 1) for states in (query, key, value))
    attended = [
        F.scaled_dot_product_attention(
            _pick(query_NHD, block.query_ST),
            _pick(key_NHD, block.key_SK),
            _pick(value_NHD, block.key_SK),
            attn_mask=block.mask_S1TK,
            is_causal=block.mask_S1TK is None,
            scale=kwargs.get("scaling"),
            enable_gqa=key.shape[1] != query.shape[1],
        )
        for block in blocks.blocks
    ]
    return torch.cat([found.transpose(1, 2).flatten(0, 1) for found in attended]).index_select(0, blocks.place_N)[None], None


def _pick(states_NHD: Tensor, place_ST: Tensor) -> Tensor:
    """[S, H, T, D] of the tokens at these places."""
    return states_NHD.index_select(0, place_ST.flatten()).unflatten(0, place_ST.shape).transpose(1, 2)
