"""Which GPU an actor gets: one of its own, or with cluster.placement=colocated one that an engine and a learner rank share."""

from dataclasses import dataclass
from typing import Any

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from uec.config.schema import Config

HALF = 0.5
"""Of a GPU in Ray's count: a whole device that two actors see."""


@dataclass
class Pairs:
    """A bundle of a GPU and CPUs for each engine and the rank of its number. Without it Ray would fill a GPU with two engines."""

    cfg: Config
    group: PlacementGroup | None = None

    def reserve(self) -> None:
        """Ask Ray for the bundles; actors of a bundle wait for it."""
        bundle = {"GPU": 1.0, "CPU": self.cfg.rollout.cpus + self.cfg.learner.cpus}
        self.group = placement_group([bundle] * self.cfg.learner.ranks, strategy="PACK")

    def options(self, number: int) -> dict[str, Any]:
        """Of an actor in that bundle."""
        strategy = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=number)
        return {"scheduling_strategy": strategy, "num_gpus": HALF}

    def release(self) -> None:
        if self.group is not None:
            remove_placement_group(self.group)
            self.group = None
