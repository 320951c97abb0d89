"""DifficultyActor: classifies finished groups and keeps the history of each prompt."""

import json
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uec.algorithm.difficulty import PromptHistory, classify
from uec.config.schema import Config
from uec.system.journal import Journal
from uec.types import Kind, Outcome, ScheduleState, Verdict

KEPT_CALLS = 4096
"""Calls whose verdicts are kept; only a call that is under way when the actor dies is repeated."""


class DifficultyActor:
    """The only DifficultyActor of a run; its history covers all prompts."""

    def __init__(self, cfg: Config, journal: Path | None = None):
        """`journal`: file from which a replacement restores the history."""
        self.cfg = cfg
        self.history = PromptHistory()
        self._journal = None if journal is None else Journal(journal)
        self._answered: OrderedDict[int, list[Verdict]] = OrderedDict()  # by call

    def start(self, replaces: bool) -> None:
        """Begin a journal, or restore the state of the actor that this one replaces."""
        if self._journal is not None and replaces:
            self._restore(self._journal)
        else:
            self._compact()

    def classify(self, outcomes: list[Outcome], schedule: ScheduleState, call: int | None = None) -> list[Verdict]:
        """Record regular and exploration groups in their order, and return a verdict for each (never difficult for exploration).

        `call`: the caller's number of this call. A repeated call returns the verdicts of the first one and records nothing.
        """
        if call is not None and call in self._answered:
            return self._answered[call]
        verdicts = [classify(outcome, self.history, self.cfg, schedule) for outcome in outcomes]
        if self._journal is not None and call is not None:
            rows = [[asdict(outcome), asdict(verdict)] for outcome, verdict in zip(outcomes, verdicts, strict=True)]
            self._journal.append(json.dumps({"call": call, "rows": rows}).encode())
            self._keep(call, verdicts)
        return verdicts

    def state(self) -> dict[str, Any]:
        """Return the history, as JSON; the journal starts again from it."""
        self._compact()
        return self.history.state()

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.history.load(state)
        self._compact()

    def _compact(self) -> None:
        if self._journal is not None:
            answered = [[call, [asdict(verdict) for verdict in verdicts]] for call, verdicts in self._answered.items()]
            self._journal.restart(json.dumps({"history": self.history.state(), "answered": answered}).encode())

    def _restore(self, journal: Journal) -> None:
        for number, record in enumerate(journal.read()):
            content = json.loads(record)
            if number == 0:
                self.history.load(content["history"])
                for call, verdicts in content["answered"]:
                    self._keep(call, [Verdict(**verdict) for verdict in verdicts])
                continue
            verdicts = []
            for outcome, verdict in content["rows"]:
                verdicts.append(Verdict(**verdict))
                self.history.record(Outcome(**{**outcome, "kind": Kind(outcome["kind"])}), verdicts[-1].difficult)
            self._keep(content["call"], verdicts)

    def _keep(self, call: int, verdicts: list[Verdict]) -> None:
        self._answered[call] = verdicts
        if len(self._answered) > KEPT_CALLS:
            self._answered.popitem(last=False)
