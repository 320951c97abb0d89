"""What came of each fault, as a table and as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from rich.table import Table

from uec.system.files import atomic_write


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fault that was injected."""

    fault: str
    promise: str
    kept: bool
    seconds: float | None  # until the run went on, had ended as promised, or had made a step again
    said: str = ""  # how the promise was broken


@dataclass
class Report:
    """A campaign's results."""

    seed: int
    outcomes: list[Outcome] = field(default_factory=list)
    books: list[str] = field(default_factory=list)  # what is wrong with the books of the runs
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def kept(self) -> int:
        """Return how many promises were kept."""
        return sum(outcome.kept for outcome in self.outcomes)

    @property
    def ok(self) -> bool:
        """Return whether every promise was kept, and the books are right."""
        return bool(self.outcomes) and self.kept == len(self.outcomes) and not self.books

    def rows(self) -> list[tuple[str, str, int, int, float | None, float | None]]:
        """Return for each kind of fault: fault, promise, injected, as promised, median and longest seconds to recover.

        The damages of a checkpoint are one kind.
        """
        kinds: dict[tuple[str, str], list[Outcome]] = {}
        for outcome in self.outcomes:
            name = "damage a checkpoint's file" if outcome.fault.startswith("damage ") else outcome.fault
            kinds.setdefault((name, outcome.promise), []).append(outcome)
        found = []
        for (name, promise), outcomes in kinds.items():
            seconds = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
            times = (median(seconds), max(seconds)) if seconds else (None, None)
            found.append((name, promise, len(outcomes), sum(one.kept for one in outcomes), *times))
        return found

    def table(self) -> Table:
        """Return the table of the faults."""
        made = Table(title=f"uec chaos, seed {self.seed}: {self.kept} of {len(self.outcomes)} as promised", title_justify="left")
        for title in ("fault", "promise", "injected", "as promised", "seconds, median", "longest"):
            made.add_column(title, justify="left" if title in ("fault", "promise") else "right")
        for fault, promise, injected, kept, middle, longest in self.rows():
            style = "green" if kept == injected else "bold red"
            times = ["" if value is None else f"{value:.0f}" for value in (middle, longest)]
            made.add_row(fault, promise, str(injected), f"[{style}]{kept}[/]", *times)
        return made

    def broken(self) -> list[str]:
        """Return what was broken, a sentence each."""
        return [f"{one.fault}: {one.said}" for one in self.outcomes if not one.kept] + [f"books: {breach}" for breach in self.books]

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps({**asdict(self), "ok": self.ok}, indent=1) + "\n")
