"""The command line: finds the command, and turns its outcome into an exit status. A command is a file of `uec/commands`."""

import argparse
import atexit
import os
import sys

from uec.commands import bench, doctor, train
from uec.errors import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_SIGINT, BadInput, RunFailed

COMMANDS = (train, doctor, bench)
STATUSES = "exit status: 0 done, 2 bad input, 1 a failure that was named, 130 and 143 stopped by Ctrl-C and SIGTERM after a checkpoint"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except BadInput as error:
        return _complain(error, EXIT_BAD_INPUT)
    except RunFailed as error:
        return _complain(error, EXIT_FAILURE)
    except KeyboardInterrupt:
        print("uec: stopped before training began; nothing was changed", file=sys.stderr)
        return EXIT_SIGINT


def parser() -> argparse.ArgumentParser:
    """Of all commands."""
    whole = argparse.ArgumentParser(prog="uec", description="RL for reasoning models with unified entropy control", epilog=STATUSES)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        one = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=f"{command.EXAMPLES}\n{STATUSES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(one)
        one.set_defaults(run=command.run)
    return whole


def script(argv: list[str] | None = None) -> int:
    """What the command `uec` calls: `main` in a process of its own."""
    atexit.register(_end_quietly)
    return main(argv)


def _end_quietly() -> None:
    """Registered first, so called last: all that is still written to stderr are pages of nanobind's about what Triton leaks at exit."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _complain(error: Exception, status: int) -> int:
    lines = str(error).splitlines() or [type(error).__name__]
    print("\n".join([f"uec: {lines[0]}", *(f"     {line}" for line in lines[1:])]), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(script())
