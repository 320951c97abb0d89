"""Attention of packed rows: all prompts and responses of a micro-batch form one row without padding, responses after their prompt.

A prompt attends to itself, a response to its prompt and itself. A mask over the whole row would cost the square of its length, mostly for
pairs of tokens that do not attend to each other. Instead, the row is cut into pieces (a prompt or a response), and pieces of similar
length are computed as one batch, each with its own keys. There are two ways to compute a response: masked, where only its tokens are
queries and the prompt's tokens are keys; or joined, where the prompt's tokens are queries once more, so that causality replaces the mask.
Joined is cheaper for a response that is much longer than its prompt.

On CUDA in half precision, one call of torch's variable-length FlashAttention replaces the blocks: it takes any lengths, without padding
and without a plan or compilation for each new shape.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uec.config.schema import LearnerConfig
from uec.errors import BadInput
from uec.models.model_config import full_attention
from uec.system.platform import Platform, has_flash_attention

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NAME = "uec_pieces"
"""The name of this attention in transformers."""

SHORTEST = 16
"""Pieces of up to this many tokens share a block. Longer ones share a block if they are at most a sixth shorter than its longest."""

CAUSAL_PAYS = 64
"""A response that exceeds its prompt by this many tokens is joined. Causal kernels skip tiles of this width above the diagonal."""

FLASH_HEAD_DIM = 256
"""Largest head dimension of FlashAttention, which also requires a multiple of 8."""


class Pieces(Protocol):
    """The pieces of a packed row of N tokens."""

    @classmethod
    def of(cls, begin_S: Ints, size_S: Ints, prompt_S: Ints, device: torch.device) -> "Pieces":
        """Take pieces by first token and length, in the row's order. `prompt_S`: index of each piece's prompt; a prompt's is its own."""
        ...

    def attend(self, query_NHD: Tensor, key_NHD: Tensor, value_NHD: Tensor, scale: float | None) -> Tensor:
        """Return the attention output [N, H, D]. Keys and values may have fewer heads than queries."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """S pieces of at most T tokens with K keys each, as indices into the row."""

    query_ST: Tensor  # 0 where padded
    key_SK: Tensor
    mask_S1TK: Tensor | None  # bool; None: causal, with the queries as keys


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks that contain all pieces of a row of N tokens."""

    blocks: list[Block]
    place_N: Tensor  # index of each token among all S * T of the blocks
    repeats: bool  # repeat keys and values for masked blocks: on GPUs, SDPA's kernels for masks have no grouped queries

    @classmethod
    def of(cls, begin_S: Ints, size_S: Ints, prompt_S: Ints, device: torch.device) -> "Blocks":
        before_S = np.where(prompt_S == np.arange(len(prompt_S)), 0, size_S[prompt_S])
        causal_S = (before_S == 0) | (size_S > before_S + CAUSAL_PAYS)
        place_N = np.zeros(int(size_S.sum()), np.int64)
        blocks, done = [], 0
        for chosen, causal in _similar(np.where(causal_S, before_S + size_S, size_S), causal_S, size_S > 0):
            prompt_SP, valid_SP = _places(begin_S[prompt_S[chosen]], before_S[chosen])
            place_ST, valid_ST = _places(begin_S[chosen], size_S[chosen])
            if causal:
                place_ST, valid_ST = _joined(prompt_SP, valid_SP, place_ST, valid_ST)
                key_SK, mask_S1TK = place_ST, None
            else:
                key_SK, mask_S1TK = np.concatenate([prompt_SP, place_ST], 1), _mask(valid_SP, place_ST.shape[1])
            place_N[place_ST[valid_ST]] = done + np.flatnonzero(valid_ST)
            done += valid_ST.size
            mask = None if mask_S1TK is None else torch.from_numpy(mask_S1TK).to(device)
            blocks.append(Block(torch.from_numpy(place_ST).to(device), torch.from_numpy(key_SK).to(device), mask))
        return cls(blocks, torch.from_numpy(place_N).to(device), repeats=device.type != "cpu")

    def attend(self, query_NHD: Tensor, key_NHD: Tensor, value_NHD: Tensor, scale: float | None) -> Tensor:
        attended = [self._attend(block, query_NHD, key_NHD, value_NHD, scale) for block in self.blocks]
        return torch.cat([states.transpose(1, 2).flatten(0, 1) for states in attended]).index_select(0, self.place_N)

    def _attend(self, block: Block, query_NHD: Tensor, key_NHD: Tensor, value_NHD: Tensor, scale: float | None) -> Tensor:
        query_SHTD, key_SHKD = _pick(query_NHD, block.query_ST), _pick(key_NHD, block.key_SK)
        value_SHKD = _pick(value_NHD, block.key_SK)
        groups = query_NHD.shape[1] // key_NHD.shape[1]
        if self.repeats and block.mask_S1TK is not None and groups > 1:
            key_SHKD, value_SHKD = (states.repeat_interleave(groups, 1) for states in (key_SHKD, value_SHKD))
            groups = 1
        return F.scaled_dot_product_attention(
            query_SHTD, key_SHKD, value_SHKD,
            attn_mask=block.mask_S1TK, is_causal=block.mask_S1TK is None, scale=scale, enable_gqa=groups > 1,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class VarlenPieces:
    """S pieces in one call of FlashAttention: a piece's queries are its tokens, its keys are its prompt's tokens and then its own.

    FlashAttention aligns its causal mask at the last query and the last key, so every query sees its whole prompt.
    """

    query_cu_S1: Tensor  # first query of each piece, and the number of queries; int32
    key_cu_S1: Tensor  # the same of its keys
    key_K: Tensor  # row indices of all pieces' keys
    longest_query: int
    longest_key: int

    @classmethod
    def of(cls, begin_S: Ints, size_S: Ints, prompt_S: Ints, device: torch.device) -> "VarlenPieces":
        before_S = np.where(prompt_S == np.arange(len(prompt_S)), 0, size_S[prompt_S])
        runs_2S = np.stack([begin_S[prompt_S], begin_S], 1)[size_S > 0].ravel()  # prompt, piece, prompt, piece, ...
        counts_2S = np.stack([before_S, size_S], 1)[size_S > 0].ravel()
        key_K = np.repeat(runs_2S - (np.cumsum(counts_2S) - counts_2S), counts_2S) + np.arange(int(counts_2S.sum()))
        query_cu_S1, key_cu_S1 = (
            torch.from_numpy(np.concatenate([[0], np.cumsum(lengths_S[size_S > 0])]).astype(np.int32)).to(device)
            for lengths_S in (size_S, before_S + size_S)
        )
        longest_key = int((before_S + size_S)[size_S > 0].max())
        return cls(query_cu_S1, key_cu_S1, torch.from_numpy(key_K).to(device), int(size_S.max()), longest_key)

    def attend(self, query_NHD: Tensor, key_NHD: Tensor, value_NHD: Tensor, scale: float | None) -> Tensor:
        from torch.nn.attention import varlen

        attended: Any = varlen.varlen_attn(
            query_NHD, key_NHD.index_select(0, self.key_K), value_NHD.index_select(0, self.key_K), self.query_cu_S1, self.key_cu_S1,
            self.longest_query, self.longest_key, scale=scale, window_size=(-1, 0), enable_gqa=key_NHD.shape[1] != query_NHD.shape[1],
        )  # fmt: skip
        return attended


def choose_pieces(settings: LearnerConfig, platform: Platform, config: Any) -> type[Pieces]:
    """Return how packed rows attend. `config`: the model's transformers config. Raises BadInput if varlen does not fit the model."""
    if platform.attention == "blocks":
        return Blocks
    text = config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    fits = takes_head(head_dim)
    if settings.attention == "varlen" and not (fits and has_flash_attention()):
        raise BadInput(
            f"learner.attention=varlen needs a GPU of compute capability 8.0 or more and a model whose head dimension is a multiple of 8 "
            f"up to {FLASH_HEAD_DIM} (here {head_dim}); set learner.attention=auto"
        )
    return VarlenPieces if fits and has_flash_attention() else Blocks


def takes_head(head_dim: int) -> bool:
    """Return whether torch's FlashAttention takes heads of this dimension."""
    return head_dim % 8 == 0 and head_dim <= FLASH_HEAD_DIM


def _similar(length_S: Ints, causal_S: Bools, nonempty_S: Bools) -> Iterator[tuple[Ints, bool]]:
    """Yield groups of pieces of one kind and of similar length, and whether the kind is causal."""
    quarter_S = np.ceil(4 * np.log2(np.maximum(length_S, SHORTEST)))
    for causal in (True, False):
        of_kind_S = nonempty_S & (causal_S == causal)
        for length in np.unique(quarter_S[of_kind_S]):
            yield np.flatnonzero(of_kind_S & (quarter_S == length)), causal


def _places(begin_S: Ints, size_S: Ints) -> tuple[Ints, Bools]:
    """Return the row indices of the pieces' tokens [S, T], 0 where padded, and the mask of tokens that are not padding."""
    offset_T = np.arange(int(size_S.max()))
    valid_ST = offset_T[None] < size_S[:, None]
    return np.where(valid_ST, begin_S[:, None] + offset_T, 0), valid_ST


def _joined(prompt_SP: Ints, valid_SP: Bools, place_ST: Ints, valid_ST: Bools) -> tuple[Ints, Bools]:
    """Return the row indices of each prompt followed by its response, padded at the end, and the mask of response tokens."""
    order = np.argsort(~np.concatenate([valid_SP, valid_ST], 1), axis=1, kind="stable")
    T = int((valid_SP.sum(1) + valid_ST.sum(1)).max())
    both = np.concatenate([prompt_SP, place_ST], 1), np.concatenate([np.zeros_like(valid_SP), valid_ST], 1)
    places, responses = (np.take_along_axis(array, order, 1)[:, :T] for array in both)
    return np.ascontiguousarray(places), np.ascontiguousarray(responses)


def _mask(valid_SP: Bools, T: int) -> Bools:
    """Return the mask [S, 1, T, P + T]: the whole prompt, and the response causally."""
    shape = (len(valid_SP), T, valid_SP.shape[1])
    tril_STT = np.broadcast_to(np.tri(T, dtype=bool), (len(valid_SP), T, T))
    return np.concatenate([np.broadcast_to(valid_SP[:, None], shape), tril_STT], 2)[:, None]


def takes_pieces(hf: Any) -> bool:
    """Return whether all layers of a transformers model have full attention and accept a custom attention function."""
    return full_attention(hf.config) and bool(getattr(hf, "_supports_attention_backend", False))


def use_pieces(hf: Any) -> None:
    """Let the forward pass of a transformers model accept `pieces=`. Requires `takes_pieces`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)  # without padding on the left, causality is sufficient
    hf.config.get_text_config()._attn_implementation = NAME


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, pieces: Pieces | None = None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Implement transformers' attention interface: query [B, H, L, D], key and value with fewer heads. Returns [B, L, H, D].

    With pieces, B is 1. Without, rows are causal.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if pieces is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    query_NHD, key_NHD, value_NHD = (states[0].transpose(0, 1) for states in (query, key, value))
    return pieces.attend(query_NHD, key_NHD, value_NHD, kwargs.get("scaling"))[None], None


def _pick(states_NHD: Tensor, place_ST: Tensor) -> Tensor:
    """Return the states [S, H, T, D] of the tokens at these indices."""
    return states_NHD.index_select(0, place_ST.flatten()).unflatten(0, place_ST.shape).transpose(1, 2)
