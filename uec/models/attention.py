"""Attention of rows whose responses share a prompt: a response looks at the prompt and at itself.

A mask over the whole row would do, and its cost would grow with the square of the row: most of it for pairs of responses that do not look
at each other. Here prompts and responses attend apart, the responses side by side, each to its prompt's keys and its own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uec.models.source import full_attention

NAME = "uec_blocks"
"""As transformers knows it."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Where prompts and responses stand in B rows of L tokens: R responses of at most T tokens, prompts of at most P."""

    prompt: int  # P; a prompt starts its row
    row_R: Tensor  # the row of each response
    token_RT: Tensor  # places of their tokens among all B * L; 0 where padded
    mask_R1TK: Tensor  # bool: whether a response's token looks at each of K = P + T keys, the prompt's and its own
    place_BL: Tensor  # of each token among the B * P of prompts and R * T of responses; 0 where padded

    @classmethod
    def of(cls, shape: tuple[int, int], prompts_B: NDArray[np.int64], row_R: NDArray[np.int64], begin_R: NDArray[np.int64],
           lengths_R: NDArray[np.int64], device: torch.device) -> "Blocks":  # fmt: skip
        """Of prompts by their lengths, and responses by row, first column and length; each response has a token."""
        longest, P, L = int(lengths_R.max()), int(prompts_B.max()), shape[1]
        own_RT = np.arange(longest)[None] < lengths_R[:, None]
        first_R = row_R * L + begin_R
        token_RT = np.where(own_RT, first_R[:, None] + np.arange(longest), 0)
        to_prompt_RTP = np.broadcast_to(np.arange(P)[None, None] < prompts_B[row_R][:, None, None], (len(row_R), longest, P))
        to_own_RTT = np.broadcast_to(np.tri(longest, dtype=bool), (len(row_R), longest, longest))
        place_BL = np.zeros(shape, np.int64)
        place_BL[:, :P] = np.arange(shape[0])[:, None] * P + np.arange(P)
        place_BL.reshape(-1)[token_RT[own_RT]] = (shape[0] * P + np.arange(own_RT.size).reshape(own_RT.shape))[own_RT]
        tensors = [row_R, token_RT, np.concatenate([to_prompt_RTP, to_own_RTT], 2)[:, None], place_BL]
        return cls(P, *(torch.from_numpy(array).to(device) for array in tensors))


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
    """transformers' interface: query [B, H, L, D], key and value of fewer heads; to [B, L, H, D]. Without blocks it is causal."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if blocks is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    scale, P = kwargs.get("scaling"), blocks.prompt
    queries = key.shape[1] != query.shape[1]

    def attend(query: Tensor, key: Tensor, value: Tensor, **how: Any) -> Tensor:
        """[N, H, T, D] to [N * T, H, D]."""
        return F.scaled_dot_product_attention(query, key, value, scale=scale, enable_gqa=queries, **how).transpose(1, 2).flatten(0, 1)

    prompts = attend(query[:, :, :P], key[:, :, :P], value[:, :, :P], is_causal=True)
    responses = attend(
        _pick(query, blocks.token_RT),
        torch.cat([key[:, :, :P].index_select(0, blocks.row_R), _pick(key, blocks.token_RT)], 2),
        torch.cat([value[:, :, :P].index_select(0, blocks.row_R), _pick(value, blocks.token_RT)], 2),
        attn_mask=blocks.mask_R1TK,
    )
    joined = torch.cat([prompts, responses]).index_select(0, blocks.place_BL.flatten())
    return joined.unflatten(0, blocks.place_BL.shape), None


def _pick(states: Tensor, token_RT: Tensor) -> Tensor:
    """[B, H, L, D] to the tokens' [R, H, T, D]."""
    return states.transpose(1, 2).flatten(0, 1).index_select(0, token_RT.flatten()).unflatten(0, token_RT.shape).transpose(1, 2)
