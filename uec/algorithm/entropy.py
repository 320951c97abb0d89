"""Log-probabilities and true entropies of response tokens, computed in chunks.

Logits (tokens x vocabulary) are the largest tensor of a language model's training step. Here they exist only for `rows` tokens at
once, in the forward and in the backward pass.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]
"""Hidden states [C, D] to logits [C, V]. Logits must be finite: mask with torch.finfo(dtype).min, not -inf."""


class TokenScores(NamedTuple):
    """Log-probabilities and entropies of a policy at N given tokens, in nats; float32, or float64 if the logits are."""

    logprobs_N: Tensor  # log pi(token) at T = 1, with gradient
    entropies_N: Tensor  # -sum_v p_v log p_v over the full vocabulary at T = 1; with gradient if `Gradients` says so
    tempered_N: Tensor  # log pi(token) at the sampling temperature; with gradient if `Gradients` says so


class Gradients(NamedTuple):
    """Which values have a gradient, besides the log-probabilities at T = 1; each costs time in the backward pass."""

    entropy: bool = False
    tempered: bool = False


NO_MORE = Gradients()


def rows_per_chunk(vocab: int, megabytes: int) -> int:
    """Return the number of tokens whose float32 logits fit into `megabytes` MiB, at least 1."""
    return max(1, (megabytes << 20) // (4 * vocab))


def token_scores(
    hidden_ND: Tensor, head: Head, targets_N: Tensor, rows: int, temperatures_N: Tensor | None = None, gradients: Gradients = NO_MORE
) -> TokenScores:
    """Return log-probabilities and entropies of targets from the hidden states before them, `rows` tokens at a time.

    Several chunks are checkpointed: the backward pass computes their logits again (one more product with the head) instead of
    keeping them. A single chunk is not checkpointed, so a small vocabulary pays nothing.

    Args: hidden states [N, D]; the head; token ids [N]; sampling temperatures [N], above 0, or None for T = 1.
    """
    bounds = range(0, hidden_ND.shape[0], rows)
    if len(bounds) <= 1:
        return _score_chunk(hidden_ND, head, targets_N, temperatures_N, gradients)
    chunks = []
    for start in bounds:
        piece = slice(start, start + rows)
        temperatures = None if temperatures_N is None else temperatures_N[piece]
        chunks.append(
            checkpoint(
                _score_chunk,
                hidden_ND[piece],
                head,
                targets_N[piece],
                temperatures,
                gradients,
                use_reentrant=False,
                preserve_rng_state=False,  # a head uses no random numbers
            )
        )
    return TokenScores(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


def _score_chunk(hidden_CD: Tensor, head: Head, targets_C: Tensor, temperatures_C: Tensor | None, gradients: Gradients) -> TokenScores:
    logits_CV = head(hidden_CD)
    dtype = torch.promote_types(logits_CV.dtype, torch.float32)
    logprobs_CV = F.log_softmax(logits_CV, dim=-1, dtype=dtype)
    del logits_CV  # lowers the peak of memory below
    logprobs_C = logprobs_CV.gather(1, targets_C[:, None]).squeeze(1)
    # Values without a gradient come last, because recomputation in the backward pass stops before them.
    tempered_C = _tempered(logprobs_CV, logprobs_C, targets_C, temperatures_C) if gradients.tempered else None
    entropies_C = -(logprobs_CV.exp() * logprobs_CV).sum(-1) if gradients.entropy else None
    with torch.no_grad():
        if tempered_C is None:
            tempered_C = _tempered(logprobs_CV, logprobs_C, targets_C, temperatures_C)
        if entropies_C is None:
            # In place, this takes two thirds of the time of (p * logp).sum() for a large vocabulary.
            entropies_C = logprobs_CV.exp().mul_(logprobs_CV).sum(-1).neg_()
    return TokenScores(logprobs_C, entropies_C, tempered_C)


def _tempered(logprobs_CV: Tensor, logprobs_C: Tensor, targets_C: Tensor, temperatures_C: Tensor | None) -> Tensor:
    """Return log-probabilities of the targets at their temperatures."""
    hot_H = None if temperatures_C is None else (temperatures_C != 1).nonzero().squeeze(1)
    if temperatures_C is None or hot_H is None or not len(hot_H):
        return logprobs_C.clone()
    # log p^(1/T) differs from logits / T by a constant per row, which log_softmax removes.
    scaled_HV = logprobs_CV[hot_H] / temperatures_C[hot_H, None].to(logprobs_CV.dtype)
    return logprobs_C.index_copy(0, hot_H, scaled_HV.log_softmax(-1).gather(1, targets_C[hot_H, None]).squeeze(1))


def covariance_sums(logprobs_N: Tensor, advantages_N: Tensor) -> Tensor:
    """Return [N, sum l, sum A, sum l A] in float64. Add them over micro-batches and ranks, then call `covariance`."""
    l_N, a_N = logprobs_N.detach().double(), advantages_N.detach().double()
    return torch.stack([torch.full_like(l_N, 1.0).sum(), l_N.sum(), a_N.sum(), (l_N * a_N).sum()])


def covariance(sums_4: Tensor) -> float:
    """Return Cov(log pi(a), A) over tokens; the change of entropy is about -eta times this (2505.22617, theorem 1).

    The unit is nats times advantage. It covers the *trained* tokens, which retention chose, so it only estimates the theorem's
    expectation under the policy. 0 without tokens.
    """
    count, l_sum, a_sum, la_sum = sums_4.tolist()
    return la_sum / count - (l_sum / count) * (a_sum / count) if count else 0.0
