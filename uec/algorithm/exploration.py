"""Targeted exploration: the temperature, how long a run explores, and the rounds in which responses are sampled (2604.14646)."""

from typing import Any

from uec.config.schema import ExplorationConfig
from uec.types import ScheduleState, TrainingSample


def exploration_temperature(failures: int, state: ScheduleState, exploration: ExplorationConfig) -> float:
    """Return t' by `exploration.schedule`, between `temperature` and `temperature_end`.

    constant (paper): `temperature`. linear: over the run. failures: `temperature_step` for each earlier visit at which the prompt was
    difficult; `failures` counts this one, too. entropy: from `temperature` at the entropy of the first step, to the end at twice
    that, because hotter sampling adds little where the policy is uncertain.
    """
    begin, end = exploration.temperature, exploration.temperature_end
    if end is None or exploration.schedule == "constant":
        return begin
    if exploration.schedule == "linear":
        way = state.done
    elif exploration.schedule == "failures":
        way = exploration.temperature_step * (failures - 1) / max(abs(end - begin), 1e-9)
    elif state.entropy is None or not state.first_entropy:
        way = 0.0
    else:
        way = state.entropy / state.first_entropy - 1
    return begin + (end - begin) * min(1.0, max(0.0, way))


WINDOW = 10
"""Steps whose mean difficult share `auto` compares."""
FALLEN_TO = 0.6
"""Share of the first window's mean at which `auto` ends exploration: the best variant of our study on the Countdown task."""


class ExplorationSchedule:
    """Decides whether the run still explores (`exploration.until`), and follows its entropy. Part of each checkpoint.

    Exploration that has ended does not begin again.
    """

    def __init__(self, until: float | str, steps: int) -> None:
        self.until = until
        self.steps = steps
        self.difficult_shares: list[float] = []  # of each step so far, for `auto`
        self.ended = False
        self.first_entropy: float | None = None
        self.entropy: float | None = None
        self.now = ScheduleState(0.0, True)

    def exploring(self, steps_done: int) -> bool:
        """Return whether the step after `steps_done` others explores."""
        if isinstance(self.until, str):
            return not self.ended
        return steps_done < round(self.until * self.steps, 6)  # 0.07 of 100 steps is 7.000000000000001 in floats

    def begin_step(self, steps_done: int) -> None:
        """Fix the state that the DifficultyActor reads in the coming step."""
        self.now = ScheduleState(steps_done / self.steps, self.exploring(steps_done), self.entropy, self.first_entropy)

    def end_step(self, metrics: dict[str, float]) -> None:
        """Read the step's metrics, and add `entropy/change`."""
        self.observe(metrics["explore/difficult_frac"])
        entropy = metrics.get("entropy/regular")
        if entropy is None:
            return
        if self.entropy is not None:
            metrics["entropy/change"] = entropy - self.entropy
        self.entropy = entropy
        if self.first_entropy is None:
            self.first_entropy = entropy

    def observe(self, difficult_share: float) -> None:
        """Count a step's share of difficult prompts; `auto` decides by it."""
        if self.until != "auto":
            return
        self.difficult_shares.append(difficult_share)
        if len(self.difficult_shares) >= 2 * WINDOW:
            self.ended |= sum(self.difficult_shares[-WINDOW:]) <= FALLEN_TO * sum(self.difficult_shares[:WINDOW])

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds, as JSON."""
        return {
            "difficult_shares": self.difficult_shares, "ended": self.ended, "entropy": self.entropy, "first_entropy": self.first_entropy
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.difficult_shares, self.ended = list(state["difficult_shares"]), state["ended"]
        self.entropy, self.first_entropy = state["entropy"], state["first_entropy"]


def round_sizes(n: int, rounds: int) -> list[int]:
    """Split n responses into up to `rounds` rounds of similar size, the larger ones first; no round is empty."""
    return [size for size in (n // rounds + (k < n % rounds) for k in range(rounds)) if size]


def enough(group: list[TrainingSample], round_size: int, until: str, solved_at: float) -> bool:
    """Return whether no further round is needed.

    `right`: at least one response is right. `balanced`: half a round's worth of right and of wrong ones (Reinforce-Ada, 2510.04996).
    """
    right = sum(sample.right(solved_at) for sample in group)
    if until == "right":
        return right > 0
    half = round_size // 2
    return right >= half and len(group) - right >= half
