"""The metrics that a bench returns, each with a reference or a target."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from bench.turns import Block

MEETS, MISSES = "meets", "misses"


@dataclass(frozen=True, slots=True)
class Reference:
    """The same work done by other code, measured in turns with ours."""

    what: str
    value: float  # median, in the metric's unit
    ratio: float  # ours to theirs: median over the pairs of blocks
    low: float  # of the pairs' ratios
    high: float
    pairs: int
    cpu_ratio: float | None = None  # ratio of tokens per second of CPU time, which is more reliable on a busy machine


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a metric's ratio if it has a reference, or else on its value."""

    bound: float
    at_most: bool = True  # or at least

    def holds(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table."""

    what: str
    value: float
    unit: str
    target: Target | None = None
    reference: Reference | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ratio to the reference, or else to the target; None without both."""
        if self.reference is not None:
            return self.reference.ratio
        return self.value / self.target.bound if self.target is not None else None

    @property
    def smaller_is_better(self) -> bool:
        """Whether a smaller ratio is better, which the target says; without a target larger is better."""
        return self.target is not None and self.target.at_most

    @property
    def verdict(self) -> str:
        """MEETS or MISSES; empty without a target."""
        if self.target is None:
            return ""
        judged = self.value if self.reference is None else self.reference.ratio
        return MEETS if self.target.holds(judged) else MISSES


def compared(
    what: str,
    ours: list[Block],
    theirs: list[Block],
    value: Callable[[Block], float],
    unit: str,
    against: str,
    target: Target | None = None,
    note: str = "",
) -> Metric:
    """Return the metric of blocks measured in turns: the i-th of ours and of theirs did the same work, one right after the other.

    The ratio is the median of the pairs' ratios, not the ratio of medians, because a disturbance slows both blocks of a pair.
    """
    ratios = [value(a) / value(b) for a, b in zip(ours, theirs, strict=True)]
    cpu_rates = [(a.cpu_rate, b.cpu_rate) for a, b in zip(ours, theirs, strict=True)]
    cpu_ratios = [a / b for a, b in cpu_rates if a is not None and b is not None]
    reference = Reference(
        against,
        median(map(value, theirs)),
        median(ratios),
        min(ratios),
        max(ratios),
        len(ratios),
        median(cpu_ratios) if cpu_ratios else None,
    )
    return Metric(what, median(map(value, ours)), unit, target, reference, note)
