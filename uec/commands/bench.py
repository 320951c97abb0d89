"""`uec bench [BENCH ...]`."""

import argparse
import os

import uec
from uec.errors import BadInput

NAME = "bench"
HELP = "measure the parts against their bounds"
DESCRIPTION = "Measure rollout, learner, exchange and the step against bare vLLM and bare torch, as ratios of one run."
EXAMPLES = """examples:
  uec bench
  uec bench rollout learner
  uec bench --quick
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `uec bench`."""
    parser.add_argument("names", nargs="*", metavar="BENCH", help="which to run; none: all")
    parser.add_argument(
        "--quick", action="store_true", help="a few minutes: ratios to the last committed results, status 1 if one fell by 15 %%"
    )
    parser.add_argument("--record", action="store_true", help="with --quick: write these ratios as the results to commit")


def run(arguments: argparse.Namespace) -> int:
    """Measure what was asked for."""
    if not has_benches():
        raise BadInput(
            "uec bench measures a checkout, and this is an installed wheel, which has no folder bench/; "
            "clone the repository, run `make setup` there, and call its .venv/bin/uec bench"
        )
    if arguments.record and not arguments.quick:
        raise BadInput("--record goes with --quick: it writes the ratios of the quick benches as the results to commit")
    if arguments.quick:
        if arguments.names:
            raise BadInput(
                f"--quick runs benches of its own; leave out {' '.join(arguments.names)}, or leave out --quick to run just these"
            )
        from bench import quick

        return quick.run(arguments.record)
    from bench.run import run

    return run(arguments.names)


def has_benches() -> bool:
    """Return whether this is a checkout, which has the folder bench/."""
    return os.path.isfile(os.path.join(uec.ROOT, "bench", "run.py"))
