"""`uec report [RUN ...]`."""

import argparse
from pathlib import Path

from uec.errors import BadInput

NAME = "report"
HELP = "write a page with the curves, rollouts and settings of runs"
DESCRIPTION = """Write one HTML page that works offline: curves by step, tokens or time, responses with token probabilities, events and
settings. Runs that differ only in their seed form one curve with a band."""
EXAMPLES = """examples:
  uec report                                   # the newest run in runs/
  uec report runs/uec-0 runs/uec-1 runs/grpo-0 --to comparison.html
  uec report runs/NAME --watch                 # rewrite the page during the run; an open page reloads itself
"""

PAGE = "report.html"
GROUPS = 120
EVERY_S = 10.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `uec report`."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders; default: the newest run in runs/")
    parser.add_argument(
        "--to", metavar="FILE", help=f"the page; default: {PAGE} in the run folder, or for several runs in the first one's parent"
    )
    parser.add_argument("--watch", action="store_true", help="rewrite the page during a run")
    parser.add_argument("--every", type=float, default=EVERY_S, metavar="S", help=f"seconds between two writes ({EVERY_S:.0f})")
    parser.add_argument(
        "--groups", type=int, default=GROUPS, metavar="N", help=f"prompts per run whose responses the page contains ({GROUPS}); 0: none"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def run(arguments: argparse.Namespace) -> int:
    """Read the runs and write the page."""
    import webbrowser

    from rich.console import Console

    from uec.paths import check_path
    from uec.report.page import check_place, render, watch, write
    from uec.report.run_data import find_runs, newest_run, read_runs

    if arguments.groups < 0:
        raise BadInput(f"--groups {arguments.groups}: expected 0 or more")
    if not 0.5 <= arguments.every <= 3600:
        raise BadInput(f"--every {arguments.every:g}: expected seconds from 0.5 to 3600")
    for run in arguments.runs:
        check_path(run, "RUN")
    check_path(arguments.to or ".", "--to")
    folders = find_runs(arguments.runs or [newest_run(Path("runs"))])
    folder = folders[0] if len(folders) == 1 else folders[0].parent
    place = Path(arguments.to) if arguments.to else folder / PAGE
    check_place(place)
    runs = read_runs(folders)
    live = arguments.watch and any(run.is_active for run in runs)
    write(place, render(runs, arguments.groups, arguments.every if live else None))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{place} ({place.stat().st_size / 1e6:.1f} MB)", markup=False)
    if arguments.open and not webbrowser.open(place.resolve().as_uri()):
        console.print("no browser found; open the file yourself")
    if live:
        console.print("open the page; it follows the run until the run ends or Ctrl-C is pressed here")
        watch(folders, place, arguments.groups, arguments.every, console)
    elif arguments.watch:
        console.print("no run is active: written once")
    return 0
