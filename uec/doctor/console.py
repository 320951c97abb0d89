"""The report on the console: a green, yellow or red line for each check on a terminal, plain text otherwise."""

import os
import sys

from rich.console import Console
from rich.status import Status as Spinner
from rich.table import Table
from rich.text import Text

from uec.doctor.check import Check, Status

STYLES = {Status.OK: "green", Status.NOTE: "yellow", Status.SKIP: "dim", Status.FAIL: "bold red"}
NAME = 14  # characters


class ConsoleReport:
    """Prints and counts the checks' lines as they arrive. As a context manager it restores the terminal."""

    def __init__(self) -> None:
        terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
        self._console = Console(highlight=False) if terminal else None
        self._spinner: Spinner | None = None
        self.failed = 0
        self.noted = 0
        self.skipped = 0

    def add(self, check: Check) -> None:
        self.failed += check.status is Status.FAIL
        self.noted += check.status is Status.NOTE
        self.skipped += check.status is Status.SKIP
        if self._console is None:
            print("\n".join(plain(check)), flush=True)
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(width=4)
        grid.add_column(width=NAME)
        grid.add_column(overflow="fold")
        text = Text(check.found)
        if check.fix:
            text.append(f"\n-> {check.fix}", style=STYLES[check.status])
        grid.add_row(Text(check.status, style=STYLES[check.status]), check.name, text)
        self._console.print(grid)

    def busy(self, text: str) -> None:
        """Show the current activity; only on a terminal."""
        if self._console is not None:
            if self._spinner is None:
                self._spinner = self._console.status(text)
                self._spinner.start()
            self._spinner.update(Text(text))

    def end(self) -> None:
        """Print the last line."""
        self.close()
        text = f"{self.failed} failed" if self.failed else "all checks passed"
        text += f", {self.noted} with a note" if self.noted else ""
        text += f", {self.skipped} skipped" if self.skipped else ""
        if self._console is None:
            print(text, flush=True)
        else:
            self._console.print(Text(text, style="bold red" if self.failed else "bold green"))

    def close(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def __enter__(self) -> "ConsoleReport":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def plain(check: Check) -> list[str]:
    """Return the check's lines without control characters; the fix follows the finding."""
    indent = " " * (6 + NAME + 2)
    found = check.found.splitlines() or [""]
    lines = [f"{check.status:<4}  {check.name:<{NAME}}  {found[0]}", *(indent + line for line in found[1:])]
    return [*lines, f"{indent}-> {check.fix}"] if check.fix else lines
