"""Which prompts are difficult, what is known of each, and how a difficult one is explored (2604.14646)."""

from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from uec.algorithm.exploration import exploration_temperature
from uec.config.schema import Config
from uec.types import Kind, Outcome, ScheduleState, TrainingSample, Verdict


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """What a run has seen of one prompt."""

    visits: int = 0  # regular groups
    difficult: int = 0  # visits at which no regular response was right
    responses: int = 0  # regular and exploration
    accuracy: float = 0.0  # sum over those responses; their number solved, where accuracy is 0 or 1
    last_visit: int = 0  # 1-based index of the regular group at the prompt's last visit

    @property
    def solve_rate(self) -> float:
        """Mean accuracy of all responses so far, regular and exploration; 0 before the first."""
        return self.accuracy / self.responses if self.responses else 0.0


class PromptHistory:
    """The records of all prompts that a run has met."""

    def __init__(self) -> None:
        self.records: dict[int, PromptRecord] = {}
        self.groups = 0  # regular groups so far

    def record(self, outcome: Outcome, difficult: bool) -> PromptRecord:
        """Count a finished group in; `difficult` concerns regular groups only. Returns the prompt's new record."""
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
        """JSON; JSON's keys are text, so the prompts are a list."""
        return {"groups": self.groups, "prompts": [{"prompt": p, **asdict(r)} for p, r in self.records.items()]}

    def load(self, state: dict[str, Any]) -> None:
        self.groups = state["groups"]
        self.records = {}
        for row in state["prompts"]:
            fields = {name: value for name, value in row.items() if name != "prompt"}
            self.records[row["prompt"]] = PromptRecord(**fields)


def is_difficult(right: int, n: int, max_solve_rate: float) -> bool:
    """At most `max_solve_rate` of n regular responses are right; 0, the paper's: none is."""
    return right <= round(max_solve_rate * n, 6)  # a 49th of 49 is 0.9999999999999999 in floats


def classify(outcome: Outcome, history: PromptHistory, cfg: Config, schedule: ScheduleState) -> Verdict:
    """Record a finished group and judge it.

    A regular group's prompt is difficult or not whether or not exploration is on; n is 0 where nothing shall be explored. An
    exploration group is recorded, and never difficult: its prompt is not explored twice in a visit.
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
