"""`python -m bench.chaos`: run the campaign, print its table. Exit status 1 if a promise was broken."""

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench.chaos.campaign import Campaign
from bench.chaos.result import Report
from bench.chaos.session import Scratch


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description="Disturb a real training run, and check its books.")
    parser.add_argument("--seed", type=int, help="decides which faults come when; default: a random one, which is printed")
    parser.add_argument("--minutes", type=float, default=18.0, help="time for the campaign; at least 4; default: %(default)s")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the runs; it is always kept if a promise was broken")
    chosen = parser.parse_args(arguments)
    if chosen.minutes < 4:
        parser.error(f"--minutes {chosen.minutes:g}: give at least 4; a run takes half a minute to start, and each ending needs one")
    seed = secrets.randbelow(10_000) if chosen.seed is None else chosen.seed
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(f"seed {seed}: python -m bench.chaos --seed {seed} --minutes {chosen.minutes:g}")
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))  # so that the run of the moment is ended, too
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # a short path, whatever TMPDIR is: Ray's sockets lie in it
    campaign = Campaign(seed, chosen.minutes, Scratch(folder))
    try:
        _go(campaign, console)
    finally:  # also after Ctrl-C: what came of the faults so far
        _say(campaign.report, folder, chosen.json, console)
    if campaign.report.ok and not chosen.keep:
        shutil.rmtree(folder)
    return 0 if campaign.report.ok else 1


def _say(report: Report, folder: Path, json: Path | None, console: Console) -> None:
    console.print(report.table())
    for line in [*report.broken(), *report.notes]:
        console.print(line, markup=False, soft_wrap=True)
    if json is not None:
        report.write(json)
    if not report.ok:
        console.print(f"the runs are in {folder}")


def _go(campaign: Campaign, console: Console) -> None:
    """Run a campaign with a progress bar, or with a line for each fault."""
    columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def told(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)
            if not console.is_terminal:
                console.print(f"{100 * share:3.0f} %  {what}", markup=False)

        campaign.go(told)


if __name__ == "__main__":
    sys.exit(main())
