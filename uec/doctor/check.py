"""The result of a check: a line of the report."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    NOTE = "note"  # worth knowing, but no obstacle
    SKIP = "skip"  # this machine lacks what the check needs
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """A check's name, status and finding, and the advice to fix it."""

    name: str
    status: Status
    found: str
    fix: str = ""


def ok(name: str, found: str) -> Check:
    return Check(name, Status.OK, found)


def note(name: str, found: str, fix: str = "") -> Check:
    return Check(name, Status.NOTE, found, fix)


def fail(name: str, found: str, fix: str) -> Check:
    return Check(name, Status.FAIL, found, fix)


def mib(size: float) -> str:
    """Format bytes: 3145728 -> 3 MiB, 8 << 30 -> 8.0 GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
