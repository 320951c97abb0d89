"""Which prompts are difficult, what is known of each, and how a difficult one is explored (2604.14646)."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from uec.config import Config, Exploration
from uec.types import Kind, Outcome, Verdict


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """What a run has seen of one prompt."""

    visits: int = 0  # regular groups
    difficult: int = 0  # visits at which no regular response was right
    responses: int = 0  # regular and exploration
    accuracy: float = 0.0  # sum over those responses; their number solved, where accuracy is 0 or 1
    last_visit: int = 0  # the run's how-manieth regular group it was, from 1

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


def is_difficult(max_accuracy: float, solved_at: float) -> bool:
    """No regular response is right. Of the accuracy part alone: a bonus for format must not make a prompt look solved."""
    return max_accuracy < solved_at


def how_to_explore(record: PromptRecord, exploration: Exploration) -> tuple[int, float]:
    """G' and t' for a difficult prompt with this record. The same for every prompt, as in the paper."""
    return exploration.n, exploration.temperature


def classify(outcome: Outcome, history: PromptHistory, cfg: Config) -> Verdict:
    """Record a finished group and judge it.

    A regular group's prompt is difficult if its max accuracy is below `difficulty.solved_at`, whether or not
    exploration is on; n is 0 where nothing shall be explored. An exploration group is recorded, and never difficult:
    its prompt is not explored twice in a visit.
    """
    if outcome.kind == Kind.EVAL:
        raise ValueError(f"prompt {outcome.prompt}: an evaluation's outcome must not enter the training history")
    difficult = outcome.kind == Kind.REGULAR and is_difficult(outcome.max_accuracy, cfg.difficulty.solved_at)
    record = history.record(outcome, difficult)
    if not (difficult and cfg.exploration.enabled):
        return Verdict(difficult=difficult, n=0, temperature=cfg.rollout.temperature)
    n, temperature = how_to_explore(record, cfg.exploration)
    return Verdict(difficult=True, n=n, temperature=temperature)
