"""How far the log-probabilities of an engine and a learner with the same weights may be apart."""

from dataclasses import dataclass

import numpy as np

from uec.config.schema import Config
from uec.system.platform import Platform
from uec.types import Logprobs


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The largest gaps that rounding explains, in nats."""

    mean: float
    largest: float
    half_precision: bool = False


def tolerance(cfg: Config, platform: Platform) -> Tolerance:
    """Return `weights.tolerance` and `weights.max_gap`, or else the rounding errors of the dtype.

    Engine and learner add in different orders and use different kernels. In bfloat16 two attention kernels with the same weights differ
    by .08 nats (RMS) and up to .5 on SmolLM2-135M.
    """
    half = platform.dtype != "float32"
    mean = cfg.weights.tolerance or (0.1 if half else 1e-3)
    return Tolerance(mean, cfg.weights.max_gap or (20 * mean if half else mean), half)


@dataclass(frozen=True, slots=True)
class Gap:
    """Differences of log-probabilities over all tokens, in nats."""

    mean: float
    largest: float

    @classmethod
    def of(cls, ours: list[Logprobs], theirs: list[Logprobs]) -> "Gap":
        """Compare two lists of log-probabilities; infinite where one is not finite."""
        difference_T = np.concatenate([np.abs(a - b, dtype=np.float64) for a, b in zip(ours, theirs, strict=True)])
        if not np.isfinite(difference_T).all():
            return cls(float("inf"), float("inf"))
        return cls(float(difference_T.mean()), float(difference_T.max()))

    def or_worse(self, other: "Gap") -> "Gap":
        """Return the larger mean and the larger maximum of the two."""
        return Gap(max(self.mean, other.mean), max(self.largest, other.largest))

    def within(self, tolerance: Tolerance) -> bool:
        """Return whether rounding explains the gap."""
        return self.mean <= tolerance.mean and self.largest <= tolerance.largest

    def __str__(self) -> str:
        return f"mean {self.mean:.2g}, largest {self.largest:.2g} nats"
