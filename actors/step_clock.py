"""Where a step's time goes, from the learners' side: waiting for rollouts, learning; and how long the engines had nothing to do."""

import time

from actors.stream import RolloutStream


class StepClock:
    """Started with the step; told when its rollouts are there and when they are learned from."""

    def __init__(self, stream: RolloutStream) -> None:
        self._stream = stream
        self._begin, self._cpu_begin, self._busy_begin = time.perf_counter(), time.thread_time(), stream.spent().busy

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
            "time/engine_idle_s": max(0.0, step_s - (self._stream.spent().busy - self._busy_begin)),
            "time/controller_s": time.thread_time() - self._cpu_begin,
        }
