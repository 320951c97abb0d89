"""A listener of doctor's checks that keeps their lines."""

from dataclasses import dataclass, field

from uec.doctor.check import Check


@dataclass
class Heard:
    """`checks`: every line, in order."""

    checks: list[Check] = field(default_factory=list)

    def add(self, check: Check) -> None:
        self.checks.append(check)

    def busy(self, text: str) -> None: ...
