"""How long a run explores: `exploration.until`, "explore, then consolidate"."""

from typing import Any

from uec.config.schema import Config, ExplorationConfig
from uec.types import Group, Progress


def exploration_temperature(failures: int, progress: Progress, exploration: ExplorationConfig) -> float:
    """t' by `exploration.schedule`, between `temperature` and `temperature_end`.

    constant (paper): `temperature`. linear: over the run. failures: `temperature_step` for each earlier visit at which the prompt was
    difficult; `failures` counts this one, too. entropy: from `temperature` at the entropy of the first step, to the end at twice
    that: the brake on exploration where the policy is uncertain anyway.
    """
    begin, end = exploration.temperature, exploration.temperature_end
    if end is None or exploration.schedule == "constant":
        return begin
    if exploration.schedule == "linear":
        way = progress.done
    elif exploration.schedule == "failures":
        way = exploration.temperature_step * (failures - 1) / max(abs(end - begin), 1e-9)
    elif progress.entropy is None or not progress.first_entropy:
        way = 0.0
    else:
        way = progress.entropy / progress.first_entropy - 1
    return begin + (end - begin) * min(1.0, max(0.0, way))


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


def round_sizes(n: int, rounds: int) -> list[int]:
    """n responses in up to `rounds` rounds of like size, the larger ones first; no empty round."""
    return [size for size in (n // rounds + (k < n % rounds) for k in range(rounds)) if size]


def enough(group: Group, until: str, solved_at: float) -> bool:
    """`right`: at least one response is right. `balanced`: half a round's worth of right and of wrong ones (Reinforce-Ada, 2510.04996).

    The group's own `request.n` is that of a round as long as one asks before they are joined: see `joined`.
    """
    right = group.right(solved_at)
    if until == "right":
        return right > 0
    half = group.request.n // 2
    return right >= half and len(group.trajectories) - right >= half


def joined(first: Group, later: Group) -> Group:
    """Two rounds as one group. `request` stays the first round's, n included: it tells a round's size."""
    return Group(first.request, [*first.trajectories, *later.trajectories])
