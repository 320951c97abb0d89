"""How long a run explores: `exploration.until`, "explore, then consolidate"."""

from typing import Any

WINDOW = 10
"""Steps whose mean difficult share `auto` compares."""
FALLEN_TO = 0.6
"""Share of the first window's mean at which `auto` ends exploration: the best variant of our study on the Countdown task."""


class ExplorationSpan:
    """Whether exploration goes on. Once it has ended it stays so."""

    def __init__(self, until: float | str, steps: int) -> None:
        self.until = until
        self.steps = steps
        self.shares: list[float] = []  # difficult share of each step so far, for `auto`
        self.ended = False

    def exploring(self, steps_done: int) -> bool:
        """Whether the step after `steps_done` others explores."""
        if isinstance(self.until, str):
            return not self.ended
        return steps_done < round(self.until * self.steps, 6)  # 0.07 of 100 steps is 7.000000000000001 in floats

    def observe(self, difficult_share: float) -> None:
        """Count a step's share of difficult prompts in."""
        if self.until != "auto":
            return
        self.shares.append(difficult_share)
        if len(self.shares) >= 2 * WINDOW:
            self.ended |= sum(self.shares[-WINDOW:]) <= FALLEN_TO * sum(self.shares[:WINDOW])

    def state(self) -> dict[str, Any]:
        """JSON."""
        return {"shares": self.shares, "ended": self.ended}

    def load(self, state: dict[str, Any]) -> None:
        self.shares, self.ended = list(state["shares"]), state["ended"]
