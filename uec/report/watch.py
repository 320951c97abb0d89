"""`uec report --watch`: the page again and again, for as long as a run goes on."""

import time
from pathlib import Path

from rich.console import Console

from uec.report.page import render, write
from uec.report.run_data import read_runs


def watch(folders: list[Path], place: Path, most_groups: int, every_s: float, console: Console) -> None:
    """Write the page every `every_s` seconds until no run goes on, or Ctrl-C; the last one loads itself anew no more."""
    with console.status(""):
        try:
            runs = read_runs(folders)
            while any(run.goes_on for run in runs):
                write(place, render(runs, most_groups, every_s))
                steps = ", ".join(f"{run.label}: step {int(run.rows[-1]['step']) if run.rows else 0}" for run in runs)
                console.print(f"{time.strftime('%H:%M:%S')}  {steps}", markup=False, highlight=False)
                time.sleep(every_s)
                runs = read_runs(folders)
        except KeyboardInterrupt:
            runs = read_runs(folders)
        write(place, render(runs, most_groups))
