"""DifficultyActor: judges finished groups and remembers each prompt over the run."""

from typing import Any

from uec.algorithm.difficulty import PromptHistory, classify
from uec.config.schema import Config
from uec.types import Outcome, ScheduleState, Verdict


class DifficultyActor:
    """One in a run: the history is of all prompts."""

    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.history = PromptHistory()

    def classify(self, outcomes: list[Outcome], schedule: ScheduleState) -> list[Verdict]:
        """Record regular and exploration groups in their order; a verdict for each (never difficult for exploration)."""
        return [classify(outcome, self.history, self.cfg, schedule) for outcome in outcomes]

    def state(self) -> dict[str, Any]:
        """The history, as JSON."""
        return self.history.state()

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.history.load(state)
