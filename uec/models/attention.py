"""Attention of packed rows: prompts and responses of a micro-batch stand in one row without padding, each response behind its prompt's.

A prompt looks at itself, a response at its prompt and at itself. A mask over the row would do, and would cost its square, most of it for
pairs that do not look at each other. Here pieces of like length attend side by side, each to its own keys.
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

NAME = "uec_blocks"
"""As transformers knows it."""

SHORTEST = 16
"""Pieces are padded to a power of two or less, and those of up to so many tokens to the longest of them."""


@dataclass(frozen=True, slots=True)
class Block:
    """S pieces of at most T tokens, and the K keys of each, by their places in the row."""

    query_ST: Tensor  # 0 where padded
    key_SK: Tensor
    mask_S1TK: Tensor | None  # bool, of responses; None: prompts, whose keys are their queries, are causal


@dataclass(frozen=True, slots=True)
class Blocks:
    """All pieces of a row of N tokens."""

    blocks: list[Block]
    place_N: Tensor  # of each token among all S * T of the blocks

    @classmethod
    def of(cls, begin_S: Ints, size_S: Ints, prompt_S: Ints, device: torch.device) -> "Blocks":
        """Of pieces by first token and length; `prompt_S`: the piece that is its prompt, for a prompt itself."""
        is_prompt_S = prompt_S == np.arange(len(prompt_S))
        place_N = np.zeros(int(size_S.sum()), np.int64)
        blocks, done = [], 0
        for chosen in _alike(size_S, is_prompt_S):
            place_ST, own_ST = _places(begin_S[chosen], size_S[chosen])
            place_N[place_ST[own_ST]] = done + np.flatnonzero(own_ST)
            done += own_ST.size
            query_ST = torch.from_numpy(place_ST).to(device)
            if is_prompt_S[chosen[0]]:
                blocks.append(Block(query_ST, query_ST, None))
                continue
            of = prompt_S[chosen]
            prompt_SP, there_SP = _places(begin_S[of], size_S[of])
            T = place_ST.shape[1]
            shape = (len(chosen), T, there_SP.shape[1])
            mask_STK = np.concatenate(
                [np.broadcast_to(there_SP[:, None], shape), np.broadcast_to(np.tri(T, dtype=bool), (len(chosen), T, T))], 2
            )
            key_SK = torch.from_numpy(np.concatenate([prompt_SP, place_ST], 1)).to(device)
            blocks.append(Block(query_ST, key_SK, torch.from_numpy(mask_STK[:, None]).to(device)))
        return cls(blocks, torch.from_numpy(place_N).to(device))


def _alike(size_S: Ints, is_prompt_S: NDArray[np.bool_]) -> Iterator[Ints]:
    """Pieces of one kind and of like length; empty ones are left out."""
    power_S = np.ceil(np.log2(np.maximum(size_S, SHORTEST)))
    for prompts in (True, False):
        of_kind_S = (is_prompt_S == prompts) & (size_S > 0)
        for power in np.unique(power_S[of_kind_S]):
            yield np.flatnonzero(of_kind_S & (power_S == power))


def _places(begin_S: Ints, size_S: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Places of the pieces' tokens [S, T], 0 where padded; and where they are not."""
    offset_T = np.arange(int(size_S.max()))
    own_ST = offset_T[None] < size_S[:, None]
    return np.where(own_ST, begin_S[:, None] + offset_T, 0), own_ST


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
