"""`uec report [RUN ...]`."""

import argparse
from pathlib import Path

from uec.errors import BadInput

NAME = "report"
HELP = "write a page with curves, rollouts and settings of runs"
DESCRIPTION = """Write one HTML page that opens from disk, without a network: curves by step, tokens or time, several runs side by side
(runs that differ only in their seed as one curve with a band), responses with their tokens' probabilities, events, settings."""
EXAMPLES = """examples:
  uec report                                   # the newest run in runs/
  uec report runs/uec-0 runs/uec-1 runs/grpo-0 --to comparison.html
  uec report runs/NAME --watch                 # again and again while the run goes on; the page follows by itself
"""

PAGE = "report.html"
GROUPS = 120
EVERY_S = 10.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `uec report`."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of runs; none: the newest run in runs/")
    parser.add_argument(
        "--to", metavar="FILE", help=f"the page; none: {PAGE} in the run's folder, and for several runs in the folder above the first one's"
    )
    parser.add_argument("--watch", action="store_true", help="write the page again and again while a run goes on")
    parser.add_argument("--every", type=float, default=EVERY_S, metavar="S", help=f"seconds between two pages ({EVERY_S:.0f})")
    parser.add_argument(
        "--groups", type=int, default=GROUPS, metavar="N", help=f"prompts of each run whose responses are in the page ({GROUPS}); 0: none"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def run(arguments: argparse.Namespace) -> int:
    """Read the runs, write the page."""
    import webbrowser

    from rich.console import Console

    from uec.report.page import check_place, render, write
    from uec.report.run_data import find_runs, newest_run, read_runs
    from uec.report.watch import watch

    if arguments.groups < 0:
        raise BadInput(f"--groups {arguments.groups}: expected 0 or more")
    if not 0.5 <= arguments.every <= 3600:
        raise BadInput(f"--every {arguments.every:g}: expected seconds from 0.5 to 3600")
    folders = find_runs(arguments.runs or [newest_run(Path("runs"))])
    folder = folders[0] if len(folders) == 1 else folders[0].parent
    place = Path(arguments.to) if arguments.to else folder / PAGE
    check_place(place)
    runs = read_runs(folders)
    live = arguments.watch and any(run.goes_on for run in runs)
    write(place, render(runs, arguments.groups, arguments.every if live else None))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{place} ({place.stat().st_size / 1e6:.1f} MB)", markup=False)
    if arguments.open and not webbrowser.open(place.resolve().as_uri()):
        console.print("no browser found; open the file yourself")
    if live:
        console.print("open it; it follows the run until that ends, or until Ctrl-C here")
        watch(folders, place, arguments.groups, arguments.every, console)
    elif arguments.watch:
        console.print("no run goes on: written once")
    return 0
