"""A failure of an actor, in the one form in which events.jsonl and the console report it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed, why, and what the run did about it."""

    actor: str
    node: str  # id of the actor's node; "" if it is not known yet
    cause: str
    action: str  # "restarting it (1 of 2)", "restarted", "ending the run", ...
    seconds: float = 0.0  # since the failure was noticed

    def __str__(self) -> str:
        return f"{self.actor} failed: {self.cause}; {self.action}" + (f" ({self.seconds:.1f} s)" if self.seconds else "")
