"""Random inputs that the oracle's packages and our own code are given alike: numpy and seeds only.

Floats are rounded to six decimals, so that they are the same numbers on every machine.
"""

import hashlib
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROWS, TOKENS, VOCAB = 12, 9, 11
EMPTY_ROW, FULL_ROW = 2, 7
NEAR_ROWS = (0, 5)
"""Rows whose new policy is so near the old one that GSPO's clip of 3e-4 does not always act."""


@dataclass(frozen=True)
class Batch:
    """Twelve responses of some groups, B = 12 and T = 9. What lies outside the mask is noise that must not count."""

    groups_B: Ints  # index of the group, ascending
    rewards_B: Floats
    advantages_B: Floats  # drawn, not computed from the rewards; both signs
    mask_BT: Ints  # 1 on the response's tokens, which come first; row 2 is empty, row 7 full
    new_BT: Floats  # log-probabilities in nats: the policy that is trained,
    old_BT: Floats  # the one before the update,
    ref_BT: Floats  # the reference,
    rollout_BT: Floats  # and the one that sampled


def _near(rng: np.random.Generator, logprobs_BT: Floats, spread: float, outliers: float, share: float) -> Floats:
    """Log-probabilities of another policy: normal gaps of `spread`, and of `outliers` on that share of tokens."""
    scale_BT = np.where(rng.random(logprobs_BT.shape) < share, outliers, spread)
    return -np.abs(logprobs_BT + scale_BT * rng.standard_normal(logprobs_BT.shape))


def _batch(seed: int, group_sizes: tuple[int, ...], rewards_B: Floats) -> Batch:
    rng = np.random.default_rng(seed)
    lengths_B = rng.integers(2, TOKENS, ROWS)
    lengths_B[EMPTY_ROW], lengths_B[FULL_ROW] = 0, TOKENS
    old_BT = -0.1 - rng.exponential(1.8, (ROWS, TOKENS))
    new_BT = _near(rng, old_BT, 0.25, 1.4, 0.25)
    near_BT = old_BT + 1e-3 * rng.standard_normal((ROWS, TOKENS))
    new_BT[list(NEAR_ROWS)] = near_BT[list(NEAR_ROWS)]
    return Batch(
        groups_B=np.repeat(np.arange(len(group_sizes)), group_sizes),
        rewards_B=rewards_B,
        advantages_B=np.round(1.2 * rng.standard_normal(ROWS), 6),
        mask_BT=(np.arange(TOKENS) < lengths_B[:, None]).astype(np.int64),
        new_BT=np.round(new_BT, 6),
        old_BT=np.round(old_BT, 6),
        ref_BT=np.round(_near(rng, new_BT, 0.2, 0.8, 0.2), 6),
        rollout_BT=np.round(_near(rng, old_BT, 0.1, 0.9, 0.15), 6),
    )


def _extreme(batch: Batch) -> Batch:
    """Gaps beyond every package's numerical guards: ratios of e^3.5 and e^25 and their inverses, on either sign of A."""
    mask_BT = np.ones_like(batch.mask_BT)
    mask_BT[EMPTY_ROW] = 0
    advantages_B = batch.advantages_B.copy()
    new_BT, old_BT, ref_BT = batch.new_BT.copy(), batch.old_BT.copy(), batch.ref_BT.copy()
    for row, advantage in ((3, 1.0), (FULL_ROW, -1.0)):
        advantages_B[row] = advantage
        new_BT[row, :4] = -1.0, -26.0, -1.0, -4.5
        old_BT[row, :4] = ref_BT[row, :4] = -26.0, -1.0, -4.5, -1.0
    return replace(batch, mask_BT=mask_BT, advantages_B=advantages_B, new_BT=new_BT, old_BT=old_BT, ref_BT=ref_BT)


def cases() -> dict[str, Batch]:
    """The batches by name.

    `graded` and `binary`: 3 groups of 4, one of them with equal rewards. `unequal`: groups of 5, 4 and 3.
    `singleton`: groups of 5, 4, 2 and 1. `extreme`: as `graded`, beyond the numerical guards.
    """
    # Seeds of batches in which every branch of the losses acts: both clips, dual clip, GSPO inside and outside, clip-cov, TIS.
    graded = np.round(np.random.default_rng(10).random(ROWS), 3)
    equal = graded.copy()
    equal[4:8] = 0.3
    binary = np.array([1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0], dtype=np.float64)
    batch = _batch(1952, (4, 4, 4), equal)
    return {
        "graded": batch,
        "binary": _batch(571, (4, 4, 4), binary),
        "unequal": _batch(363, (5, 4, 3), graded),
        "singleton": _batch(1211, (5, 4, 2, 1), graded),
        "extreme": _extreme(batch),
    }


def logits() -> tuple[Floats, Ints]:
    """Logits [3, 5, V = 11] and a token id for each [3, 5]. The last row is nearly one-hot."""
    rng = np.random.default_rng(5)
    logits_RTV = 2.0 * rng.standard_normal((3, 5, VOCAB))
    logits_RTV[2] *= 20
    return np.round(logits_RTV, 6), rng.integers(0, VOCAB, (3, 5))


def digest() -> str:
    """sha256 over all inputs."""
    sha = hashlib.sha256()
    for batch in cases().values():
        for field in fields(batch):
            sha.update(getattr(batch, field.name).tobytes())
    for array in logits():
        sha.update(array.tobytes())
    return sha.hexdigest()
