"""What the rollouts are waiting for at any moment, and for how long: a few additions a message and a group, none a response.

A message is what one engine is asked at once; it is at the engine until its last response is out, whatever grading takes.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.runtime.supervisor import ActorSlot
from uec.types import EngineUse, Kind, Request, Spent


@dataclass(slots=True)
class _Use:
    """Of one engine."""

    messages: int = 0
    since: float = 0.0
    seconds: float = 0.0
    tokens: int = 0


class Activity:
    """Told of messages, groups and bundles as they come and go. An evaluation's are no rollouts: they only count as engines' work."""

    def __init__(self, engines: Sequence[ActorSlot], now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._at = now()
        self._seconds = {"generate": 0.0, "explore": 0.0, "reward": 0.0}
        self._busy = 0.0
        self._messages: Counter[Kind] = Counter()  # at the engines
        self._groups = 0  # of rollouts, incomplete
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
        """A message of requests goes to an engine."""
        now, use = self._advance(), self._uses[engine]
        if not use.messages:
            use.since = now
        use.messages += 1
        self._messages[_kind(requests)] += 1

    def answered(self, engine: ActorSlot, requests: Sequence[Request]) -> None:
        """The same message's last response is out, or the engine failed."""
        now, use = self._advance(), self._uses[engine]
        use.messages -= 1
        if not use.messages:
            use.seconds += now - use.since
        self._messages[_kind(requests)] -= 1

    def graded(self, engine: ActorSlot, tokens: int) -> None:
        """A bundle of an engine's, of so many response tokens, was graded."""
        self._uses[engine].tokens += tokens

    def spent(self) -> Spent:
        """Up to now."""
        now = self._advance()
        uses = [EngineUse(use.seconds + (now - use.since if use.messages else 0.0), use.tokens) for use in self._uses.values()]
        return Spent(now, **self._seconds, busy=self._busy, engines=tuple(uses))

    def _advance(self) -> float:
        """Book the time since the last change; the time of day."""
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
    """What a message counts as; one of both kinds is regular."""
    kinds = {request.kind for request in requests}
    return next(kind for kind in (Kind.REGULAR, Kind.EXPLORATION, Kind.EVAL) if kind in kinds)


class StepClock:
    """Started with the step; told when its rollouts are there and when they are learned from."""

    def __init__(self, spent: Callable[[], Spent]) -> None:
        self._spent = spent
        self._begin, self._cpu_begin, self._busy_begin = time.perf_counter(), time.thread_time(), spent().busy

    def taken(self) -> None:
        self._taken = time.perf_counter()

    def learned(self) -> None:
        self._learned = time.perf_counter()

    def metrics(self) -> dict[str, float]:
        """At the step's end."""
        step_s = time.perf_counter() - self._begin
        return {
            "time/step_s": step_s,
            "time/learn_s": self._learned - self._taken,
            "time/idle_s": self._taken - self._begin,
            "time/engine_idle_s": max(0.0, step_s - (self._spent().busy - self._busy_begin)),
            "time/controller_s": time.thread_time() - self._cpu_begin,
        }
