"""A reward function as an environment of one turn."""

from collections.abc import Callable
from typing import Any

from uec.environments.base import Step

Grading = Callable[[str, str | list[str], dict[str, Any]], dict[str, float]]
"""(response, answer, row) -> reward parts; a `RewardFunction` is one. The answer is a text, or a list of those that are accepted."""


class SingleTurn:
    """The environment that shows nothing, grades the first response and is done."""

    def __init__(self, grade: Grading) -> None:
        self._grade = grade
        self._answer: str | list[str] = ""
        self._row: dict[str, Any] = {}

    def reset(self, answer: str | list[str], row: dict[str, Any], seed: int) -> None:
        """Keep the reference answer and the row for the response to come. The seed is not used."""
        self._answer, self._row = answer, row

    def step(self, response: str) -> Step:
        """Grade the response. Raises GradingError if the result is no reward, and whatever the reward function raises."""
        return Step(None, self._grade(response, self._answer, self._row), True)
