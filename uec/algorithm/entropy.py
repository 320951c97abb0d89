"""Log-probabilities and true entropies of response tokens, a piece of logits at a time.

Logits are the largest tensor of a language model's training step (tokens x vocabulary). Here they exist only for
`rows` tokens at once, in the forward and in the backward pass.
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
    """What a policy says of N given tokens, float32 (float64 if the logits are), in nats."""

    logprobs_N: Tensor  # log pi(token) at T = 1, with gradient
    entropies_N: Tensor  # -sum_v p_v log p_v over the full vocabulary at T = 1; with gradient where `Gradients` says so
    tempered_N: Tensor  # log pi(token) at the temperature asked for; likewise


class Gradients(NamedTuple):
    """Which scores carry a gradient beside the log-probabilities at T = 1: each costs time in the backward pass."""

    entropy: bool = False
    tempered: bool = False


NO_MORE = Gradients()


def rows_per_chunk(vocab: int, megabytes: int) -> int:
    """Tokens whose float32 logits fit in that many MiB; at least one."""
    return max(1, (megabytes << 20) // (4 * vocab))


def token_scores(
    hidden_ND: Tensor, head: Head, targets_N: Tensor, rows: int, temperatures_N: Tensor | None = None, gradients: Gradients = NO_MORE
) -> TokenScores:
    """Score targets from the hidden states before them, `rows` tokens at a time.

    With several chunks each is checkpointed: the backward pass computes its logits again instead of keeping them
    (one more product with the head). A single chunk is computed plainly, so a small vocabulary pays nothing.

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
                preserve_rng_state=False,  # a head draws nothing
            )
        )
    return TokenScores(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


def _score_chunk(hidden_CD: Tensor, head: Head, targets_C: Tensor, temperatures_C: Tensor | None, gradients: Gradients) -> TokenScores:
    logits_CV = head(hidden_CD)
    dtype = torch.promote_types(logits_CV.dtype, torch.float32)
    logprobs_CV = F.log_softmax(logits_CV, dim=-1, dtype=dtype)
    del logits_CV  # a piece of memory less at the peak, below
    logprobs_C = logprobs_CV.gather(1, targets_C[:, None]).squeeze(1)
    # What needs no gradient comes last: recomputation in the backward pass stops before it.
    tempered_C = _tempered(logprobs_CV, logprobs_C, targets_C, temperatures_C) if gradients.tempered else None
    entropies_C = -(logprobs_CV.exp() * logprobs_CV).sum(-1) if gradients.entropy else None
    with torch.no_grad():
        if tempered_C is None:
            tempered_C = _tempered(logprobs_CV, logprobs_C, targets_C, temperatures_C)
        if entropies_C is None:
            # In place: this is two thirds of the time of (p * logp).sum() where the vocabulary is large.
            entropies_C = logprobs_CV.exp().mul_(logprobs_CV).sum(-1).neg_()
    return TokenScores(logprobs_C, entropies_C, tempered_C)


def _tempered(logprobs_CV: Tensor, logprobs_C: Tensor, targets_C: Tensor, temperatures_C: Tensor | None) -> Tensor:
    """Log-probabilities of the targets at their temperatures."""
    hot_H = None if temperatures_C is None else (temperatures_C != 1).nonzero().squeeze(1)
    if temperatures_C is None or hot_H is None or not len(hot_H):
        return logprobs_C.clone()
    # log p^(1/T) differs from logits / T by a constant a row, which log_softmax takes out again.
    scaled_HV = logprobs_CV[hot_H] / temperatures_C[hot_H, None].to(logprobs_CV.dtype)
    return logprobs_C.index_copy(0, hot_H, scaled_HV.log_softmax(-1).gather(1, targets_C[hot_H, None]).squeeze(1))


def covariance_sums(logprobs_N: Tensor, advantages_N: Tensor) -> Tensor:
    """[N, sum l, sum A, sum l A] in float64: add over micro-batches and ranks, then `covariance`."""
    l_N, a_N = logprobs_N.detach().double(), advantages_N.detach().double()
    return torch.stack([torch.full_like(l_N, 1.0).sum(), l_N.sum(), a_N.sum(), (l_N * a_N).sum()])


def covariance(sums_4: Tensor) -> float:
    """Cov(log pi(a), A) over tokens: -eta times it predicts the change of entropy (2505.22617, theorem 1).

    In nats times advantage. Over the *trained* tokens, which retention chose: an estimate of the theorem's expectation
    under the policy. No tokens: 0.
    """
    count, l_sum, a_sum, la_sum = sums_4.tolist()
    return la_sum / count - (l_sum / count) * (a_sum / count) if count else 0.0
