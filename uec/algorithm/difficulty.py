"""Decide which prompts are difficult and how to explore them, and record the outcomes of each prompt (2604.14646)."""

from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from uec.algorithm.exploration import exploration_temperature
from uec.config.schema import Config
from uec.types import Kind, Outcome, ScheduleState, TrainingSample, Verdict


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """The outcomes of one prompt so far in a run."""

    visits: int = 0  # regular groups
    difficult: int = 0  # visits at which no regular response was right
    responses: int = 0  # regular and exploration
    accuracy: float = 0.0  # sum over those responses
    last_visit: int = 0  # 1-based index of the regular group at the prompt's last visit

    @property
    def solve_rate(self) -> float:
        """Return the mean accuracy of all responses so far, regular and exploration; 0 before the first."""
        return self.accuracy / self.responses if self.responses else 0.0


class PromptHistory:
    """The records of all prompts that a run has sampled."""

    def __init__(self) -> None:
        self.records: dict[int, PromptRecord] = {}
        self.groups = 0  # regular groups so far

    def record(self, outcome: Outcome, difficult: bool) -> PromptRecord:
        """Add a finished group; `difficult` counts for regular groups only. Returns the prompt's new record."""
        old = self.records.get(outcome.prompt, PromptRecord())
        new = replace(
            old,
            responses=old.responses + outcome.n,
            accuracy=old.accuracy + outcome.n * outcome.mean_accuracy,
        )
        if outcome.kind == Kind.REGULAR:
            self.groups += 1
            new = replace(new, visits=old.visits + 1, difficult=old.difficult + difficult, last_visit=self.groups)
        self.records[outcome.prompt] = new
        return new

    def state(self) -> dict[str, Any]:
        """Return the history, as JSON types. Prompts are a list, because JSON's keys are texts."""
        return {"groups": self.groups, "prompts": [{"prompt": p, **asdict(r)} for p, r in self.records.items()]}

    def load(self, state: dict[str, Any]) -> None:
        self.groups = state["groups"]
        self.records = {}
        for row in state["prompts"]:
            fields = {name: value for name, value in row.items() if name != "prompt"}
            self.records[row["prompt"]] = PromptRecord(**fields)


def is_difficult(right: int, n: int, max_solve_rate: float) -> bool:
    """Return whether at most `max_solve_rate` of n regular responses are right; 0 (paper): none is."""
    return right <= round(max_solve_rate * n, 6)  # 1 / 49 * 49 is 0.9999999999999999 in floats


def classify(outcome: Outcome, history: PromptHistory, cfg: Config, schedule: ScheduleState) -> Verdict:
    """Record a finished group, and return whether its prompt is difficult and how to explore it.

    Whether a regular group's prompt is difficult does not depend on exploration being on; n is 0 if it must not be explored. An
    exploration group is recorded but never difficult, because a prompt is explored only once per visit.
    """
    if outcome.kind == Kind.EVAL:
        raise ValueError(f"prompt {outcome.prompt}: an evaluation's outcome must not enter the training history")
    difficult = outcome.kind == Kind.REGULAR and is_difficult(outcome.right, outcome.n, cfg.difficulty.max_solve_rate)
    record = history.record(outcome, difficult)
    if not (difficult and cfg.exploration.enabled and schedule.exploring):
        return Verdict(difficult=difficult, n=0, temperature=cfg.rollout.temperature)
    return Verdict(difficult=True, n=cfg.exploration.n, temperature=exploration_temperature(record.difficult, schedule, cfg.exploration))


def outcome(group: list[TrainingSample], solved_at: float) -> Outcome:
    """Summarise a finished group for the DifficultyActor."""
    right = sum(sample.right(solved_at) for sample in group)
    return Outcome(group[0].prompt, group[0].kind, len(group), right, fmean([sample.accuracy for sample in group]))
