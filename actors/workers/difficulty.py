"""DifficultyActor: classifies finished groups and keeps the history of each prompt."""

from typing import Any

from uec.algorithm.difficulty import PromptHistory, classify
from uec.config.schema import Config
from uec.types import Outcome, ScheduleState, Verdict


class DifficultyActor:
    """The only DifficultyActor of a run; its history covers all prompts."""

    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.history = PromptHistory()

    def classify(self, outcomes: list[Outcome], schedule: ScheduleState) -> list[Verdict]:
        """Record regular and exploration groups in their order, and return a verdict for each (never difficult for exploration)."""
        return [classify(outcome, self.history, self.cfg, schedule) for outcome in outcomes]

    def state(self) -> dict[str, Any]:
        """Return the history, as JSON."""
        return self.history.state()

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.history.load(state)
