"""Measure the time of rollouts (generating, exploring, grading) and of a step.

A message is the set of requests that one engine gets at once. It is at the engine until its last response has arrived; grading does not
count. The cost is a few additions per message and group, and none per response.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.runtime.slots import ActorSlot
from uec.types import EngineUse, Kind, Request, RolloutTime


@dataclass(slots=True)
class _Use:
    """Counters of one engine."""

    messages: int = 0
    since: float = 0.0
    seconds: float = 0.0
    tokens: int = 0


class RolloutTimer:
    """Counts the current messages and groups, and the graded tokens. An evaluation counts only as work of the engines."""

    def __init__(self, engines: Sequence[ActorSlot], now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._at = now()
        self._seconds = {"generate": 0.0, "explore": 0.0, "reward": 0.0}
        self._busy = 0.0
        self._messages: Counter[Kind] = Counter()  # now at the engines
        self._groups = 0  # incomplete, without those of evaluations
        self._uses = {engine: _Use() for engine in engines}

    def group_opened(self, kind: Kind) -> None:
        if kind is not Kind.EVAL:
            self._advance()
            self._groups += 1

    def group_closed(self, kind: Kind) -> None:
        if kind is not Kind.EVAL:
            self._advance()
            self._groups -= 1

    def sent(self, engine: ActorSlot, requests: Sequence[Request]) -> None:
        """Record that a message of requests goes to an engine."""
        now, use = self._advance(), self._uses[engine]
        if not use.messages:
            use.since = now
        use.messages += 1
        self._messages[_kind(requests)] += 1

    def answered(self, engine: ActorSlot, requests: Sequence[Request]) -> None:
        """Record that the message's last response has arrived, or that the engine failed."""
        now, use = self._advance(), self._uses[engine]
        use.messages -= 1
        if not use.messages:
            use.seconds += now - use.since
        self._messages[_kind(requests)] -= 1

    def graded(self, engine: ActorSlot, tokens: int) -> None:
        """Record that a response batch of an engine, with this number of response tokens, was graded."""
        self._uses[engine].tokens += tokens

    def time(self) -> RolloutTime:
        """Return the seconds up to now."""
        now = self._advance()
        uses = [EngineUse(use.seconds + (now - use.since if use.messages else 0.0), use.tokens) for use in self._uses.values()]
        return RolloutTime(now, **self._seconds, busy=self._busy, engines=tuple(uses))

    def _advance(self) -> float:
        """Count the time since the last change, and return the clock."""
        now = self._now()
        passed, self._at = now - self._at, now
        at_engines = self._messages
        if at_engines.total():
            self._busy += passed
        if at_engines[Kind.REGULAR]:
            self._seconds["generate"] += passed
        elif at_engines[Kind.EXPLORATION]:
            self._seconds["explore"] += passed
        elif self._groups:
            self._seconds["reward"] += passed
        return now


def _kind(requests: Sequence[Request]) -> Kind:
    """Return the kind of a message; a message of both kinds is regular."""
    kinds = {request.kind for request in requests}
    return next(kind for kind in (Kind.REGULAR, Kind.EXPLORATION, Kind.EVAL) if kind in kinds)


class StepTimer:
    """Measures one step from the learners' side: waiting for rollouts, learning, and how long the engines had no work."""

    def __init__(self, rollouts: RolloutTimer) -> None:
        self._rollouts = rollouts
        self._begin, self._cpu_begin, self._busy_begin = time.perf_counter(), time.thread_time(), rollouts.time().busy

    def sampled(self) -> None:
        """Record that the step's rollouts are complete."""
        self._sampled = time.perf_counter()

    def learned(self) -> None:
        """Record that the step's updates are done."""
        self._learned = time.perf_counter()

    def metrics(self) -> dict[str, float]:
        """Return the step's `time/` metrics, at its end."""
        step_s = time.perf_counter() - self._begin
        return {
            "time/step_s": step_s,
            "time/learn_s": self._learned - self._sampled,
            "time/idle_s": self._sampled - self._begin,
            "time/engine_idle_s": max(0.0, step_s - (self._rollouts.time().busy - self._busy_begin)),
            "time/controller_s": time.thread_time() - self._cpu_begin,
        }
