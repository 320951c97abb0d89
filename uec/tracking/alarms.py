"""Warnings about a run that goes astray (section `warn`): each is said once, at the first step that crosses its bound."""

from collections.abc import Mapping
from statistics import fmean

from uec.config.schema import WarnConfig

FIRST = 10
"""Policy updates whose mean entropy is the measure of later ones."""


class Alarms:
    """Reads the metrics of each step in order; those of a resumed run's earlier steps, too, so that it says nothing twice."""

    def __init__(self, bounds: WarnConfig) -> None:
        self.bounds = bounds
        self._first: list[float] = []  # entropies of the first updates, in nats
        self._said: set[str] = set()

    def look(self, metrics: Mapping[str, float]) -> list[str]:
        """Return the warnings of a step that were not given before."""
        bounds, warnings = self.bounds, list[str]()
        gap, failed = metrics.get("policy/rollout_logprob_gap_mean", 0.0), metrics.get("reward/error_frac", 0.0)
        if bounds.logprob_gap is not None and self._is_new("logprob_gap", gap > bounds.logprob_gap):
            warnings.append(f"engine and learner differ by {gap:.3g} nats on average (warn.logprob_gap={bounds.logprob_gap:g})")
        if bounds.error_frac is not None and self._is_new("error_frac", failed > bounds.error_frac):
            warnings.append(f"{failed:.1%} of the gradings failed (warn.error_frac={bounds.error_frac:g})")
        entropy = metrics.get("policy/entropy")
        if entropy is None:
            return warnings
        if len(self._first) < FIRST:
            self._first.append(entropy)
            return warnings
        first, low, high = fmean(self._first), bounds.entropy_below, bounds.entropy_above
        if low is not None and self._is_new("entropy_below", entropy < low * first):
            warnings.append(f"the entropy has collapsed to {entropy:.3g} nats, from {first:.3g} at first (warn.entropy_below={low:g})")
        if high is not None and self._is_new("entropy_above", entropy > high * first):
            warnings.append(f"the entropy has blown up to {entropy:.3g} nats, from {first:.3g} at first (warn.entropy_above={high:g})")
        return warnings

    def _is_new(self, field: str, crossed: bool) -> bool:
        """Return whether a bound is crossed for the first time."""
        if not crossed or field in self._said:
            return False
        self._said.add(field)
        return True
