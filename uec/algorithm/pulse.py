"""What the run's own course decides: whether it still explores, and how far the entropy has moved."""

from typing import Any

from uec.algorithm.exploration_span import ExplorationSpan
from uec.config import Config
from uec.types import Progress


class Pulse:
    """Kept from step to step, and in checkpoints."""

    def __init__(self, cfg: Config) -> None:
        self.steps = cfg.train.steps
        self.span = ExplorationSpan(cfg.exploration.until, cfg.train.steps)
        self.first_entropy: float | None = None
        self.entropy: float | None = None
        self.progress = Progress(0.0, True)

    def begin_step(self, steps_done: int) -> None:
        """Fix what the DifficultyActor is told in the coming step."""
        self.progress = Progress(steps_done / self.steps, self.span.exploring(steps_done), self.entropy, self.first_entropy)

    def end_step(self, metrics: dict[str, float]) -> None:
        """Read the step's figures, and add `entropy/change`."""
        self.span.observe(metrics["explore/difficult_frac"])
        entropy = metrics.get("entropy/regular")
        if entropy is None:
            return
        if self.entropy is not None:
            metrics["entropy/change"] = entropy - self.entropy
        self.entropy = entropy
        if self.first_entropy is None:
            self.first_entropy = entropy

    def state(self) -> dict[str, Any]:
        """JSON."""
        return {"span": self.span.state(), "entropy": self.entropy, "first_entropy": self.first_entropy}

    def load(self, state: dict[str, Any]) -> None:
        self.span.load(state["span"])
        self.entropy, self.first_entropy = state["entropy"], state["first_entropy"]
