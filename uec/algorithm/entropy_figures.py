"""The `entropy/` metrics: true entropies of trained tokens, by kind, by outcome, and their distribution."""

import torch
from torch import Tensor

BELOW = (0.01, 0.1, 0.3, 1.0, 2.0, 4.0)
"""Nats: `entropy/below_X` is the share of tokens with less. 0.01 is a token that is as good as certain, log 2 = 0.69 a coin's."""

SLICES = ("regular", "exploration", "right", "wrong")
NAMES = tuple(f"{what}_{name}" for name in SLICES for what in ("entropy", "tokens")) + tuple(f"below_{edge:g}" for edge in BELOW)


def entropy_sums(entropies_N: Tensor, exploration_N: Tensor, right_N: Tensor) -> dict[str, Tensor]:
    """Sums of N tokens by the names of NAMES, and `entropy`, the sum of all: add over micro-batches and ranks."""
    entropies_N = entropies_N.detach()
    sums = {"entropy": entropies_N.sum()}
    for name, member_N in (("regular", ~exploration_N), ("exploration", exploration_N), ("right", right_N), ("wrong", ~right_N)):
        sums[f"entropy_{name}"] = torch.where(member_N, entropies_N, 0.0).sum()
        sums[f"tokens_{name}"] = member_N.sum()
    for edge in BELOW:
        sums[f"below_{edge:g}"] = (entropies_N < edge).sum()
    return sums


def entropy_metrics(sums: dict[str, float], tokens: float) -> dict[str, float]:
    """The metrics of summed figures; a mean over no token is left out."""
    found = {f"entropy/{name}": sums[f"entropy_{name}"] / sums[f"tokens_{name}"] for name in SLICES if sums[f"tokens_{name}"]}
    if tokens:
        found |= {f"entropy/below_{edge:g}": sums[f"below_{edge:g}"] / tokens for edge in BELOW}
    return found
