"""A stand-in for torch.nn.attention.varlen.varlen_attn, which has no CPU kernel: its definition, in float64."""

import torch
from torch import Tensor


def reference_varlen_attn(
    query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int,
    *, scale: float | None = None, window_size: tuple[int, int] = (-1, -1), enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """Compute plain softmax attention piece by piece, whole or causal.

    The causal mask is aligned at the bottom right: the last query sees the last key.

    Checks what FlashAttention requires of its arguments (flash_api.cpp of torch, mha_varlen_fwd).
    """
    assert window_size in ((-1, -1), (-1, 0))
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32 and cu_seq_q.shape == cu_seq_k.shape
    assert int(cu_seq_q[-1]) == len(query) and int(cu_seq_k[-1]) == len(key) == len(value)
    assert max_q == int(cu_seq_q.diff().max()) and max_k == int(cu_seq_k.diff().max())
    assert int(cu_seq_q.diff().min()) > 0 and bool((cu_seq_k.diff() >= cu_seq_q.diff()).all())
    assert all(states.stride(-1) == 1 and states.shape[-1] % 8 == 0 for states in (query, key, value))
    assert enable_gqa == (query.shape[1] != key.shape[1])
    groups = query.shape[1] // key.shape[1]
    pieces = []
    for q0, q1, k0, k1 in zip(cu_seq_q[:-1], cu_seq_q[1:], cu_seq_k[:-1], cu_seq_k[1:], strict=True):
        query_HTD = query[q0:q1].double().transpose(0, 1)
        key_HKD, value_HKD = (states[k0:k1].double().repeat_interleave(groups, 1).transpose(0, 1) for states in (key, value))
        T, K = query_HTD.shape[1], key_HKD.shape[1]
        scores_HTK = query_HTD @ key_HKD.transpose(1, 2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        seen_TK = torch.arange(K)[None] <= torch.arange(T)[:, None] + (K - T if window_size[1] == 0 else K)
        pieces.append((scores_HTK.masked_fill(~seen_TK, -torch.inf).softmax(-1) @ value_HKD).transpose(0, 1))
    return torch.cat(pieces).to(query.dtype)
