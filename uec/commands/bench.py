"""`uec bench [BENCH ...]`."""

import argparse
import os

import uec
from uec.errors import BadInput

NAME = "bench"
HELP = "measure the speed of each part"
DESCRIPTION = "Measure rollout, learner, weight sync and the whole step relative to plain vLLM and torch on the same machine."
EXAMPLES = """examples:
  uec bench
  uec bench rollout learner
  uec bench --quick
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `uec bench`."""
    parser.add_argument("names", nargs="*", metavar="BENCH", help="name of a bench; default: all")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="run a few minutes and compare with the committed results; exit status 1 if a ratio fell by 15 %%",
    )
    parser.add_argument("--record", action="store_true", help="with --quick: write the ratios as new results to commit")


def run(arguments: argparse.Namespace) -> int:
    """Run the benches."""
    if not has_benches():
        raise BadInput(
            "uec bench measures a checkout, and this is an installed wheel, which has no folder bench/; "
            "clone the repository, run `make setup` there, and call its .venv/bin/uec bench"
        )
    if arguments.record and not arguments.quick:
        raise BadInput("--record needs --quick, whose ratios it writes as the results to commit")
    if arguments.quick:
        if arguments.names:
            raise BadInput(
                f"--quick runs a fixed set of benches; leave out {' '.join(arguments.names)}, or leave out --quick to run only these"
            )
        from bench import quick

        return quick.run(arguments.record)
    from bench.run import run

    return run(arguments.names)


def has_benches() -> bool:
    """Return whether this is a checkout, which has the folder bench/."""
    return os.path.isfile(os.path.join(uec.ROOT, "bench", "run.py"))
