"""Causes of failed calls to actors, and the failure that sends a run back to its last checkpoint."""

import re

import ray

from uec.errors import RunFailed

ANSI = re.compile(r"\x1b\[[0-9;]*m")
DEATH = ("The actor is dead because", "Worker exit", "exit type", "exit detail", "was killed", "node died", "node was", "OOM")
ADVICE = " Some common causes include"  # Ray's guesses follow


class LearnerLost(RunFailed):
    """A learner rank died or hangs, or data for an update was lost: training has to go on from the last checkpoint."""

    def __init__(self, message: str, actor: str, node: str, cause: str) -> None:
        super().__init__(message)
        self.actor = actor
        self.node = node
        self.cause = cause


def reason(error: BaseException) -> str:
    """Return an actor error's cause in one line: the end of a traceback, or what Ray knows of a death."""
    lines = [line.strip() for line in ANSI.sub("", str(error)).splitlines() if line.strip()]
    if isinstance(error, ray.exceptions.RayActorError) and not error.actor_init_failed:
        lines = [line for line in lines if any(word in line for word in DEATH)] or lines
        return " ".join(lines).partition(ADVICE)[0][:600] or type(error).__name__
    return lines[-1][:600] if lines else type(error).__name__
