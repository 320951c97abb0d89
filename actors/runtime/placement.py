"""Assign GPUs to actors: a whole GPU each, or with cluster.placement=colocated one for an engine and a learner rank together."""

from dataclasses import dataclass
from typing import Any

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from uec.config.schema import Config

HALF = 0.5
"""Share of a GPU in Ray's count. Both actors of a pair see the whole device."""


@dataclass
class Pairs:
    """A Ray placement bundle of one GPU and CPUs for each engine and the learner rank of the same number.

    Without it Ray would put two engines on a GPU.
    """

    cfg: Config
    group: PlacementGroup | None = None

    def reserve(self) -> None:
        """Ask Ray for the bundles; actors wait until theirs is there."""
        bundle = {"GPU": 1.0, "CPU": self.cfg.rollout.cpus + self.cfg.learner.cpus}
        self.group = placement_group([bundle] * self.cfg.learner.ranks, strategy="PACK")

    def options(self, number: int) -> dict[str, Any]:
        """Return Ray's options for an actor of this bundle."""
        strategy = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=number)
        return {"scheduling_strategy": strategy, "num_gpus": HALF}

    def release(self) -> None:
        """Give the bundles back."""
        if self.group is not None:
            remove_placement_group(self.group)
            self.group = None
