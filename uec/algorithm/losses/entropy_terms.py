"""Entropy in the objective: as a bonus with its exact gradient, or in the advantage of uncertain tokens."""

import torch
from torch import Tensor

from uec.config import Loss


def entropy_bonus(entropies_N: Tensor, settings: Loss) -> Tensor:
    """-entropy_coef H of each token [N], to be added to the loss: H of the full distribution, with gradient."""
    return -settings.entropy_coef * entropies_N


def with_entropy_advantage(advantages_N: Tensor, entropies_N: Tensor, settings: Loss) -> Tensor:
    """A + min(alpha H, |A| / kappa) [N], without gradient through H (2506.14758, equations 5 and 6).

    The bound keeps the sign of A: with kappa above 1 a bad token stays bad.
    """
    return advantages_N + torch.minimum(
        settings.entropy_advantage_alpha * entropies_N.detach(), advantages_N.abs() / settings.entropy_advantage_kappa
    )
