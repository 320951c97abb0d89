# PYTHON_ARGCOMPLETE_OK
"""The command line: finds the command, and turns its outcome into an exit status. A command is a file of `uec/commands`."""

import argparse
import os
import sys
from importlib.metadata import version
from typing import Any

from uec.commands import bench, config, doctor, eval, export, report, train
from uec.errors import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM, BadInput, RunFailed
from uec.system.process_env import end_quietly

COMPLETING = "_ARGCOMPLETE"
"""Set by the shell that asks what may stand at the cursor."""

COMMANDS = (train, eval, report, export, doctor, bench, config)
STATUSES = {
    0: "done",
    EXIT_FAILURE: "a failure that was named; checkpoints stay",
    EXIT_BAD_INPUT: "bad input: nothing was started",
    EXIT_SIGHUP: "its terminal was closed; a training writes a checkpoint first",
    EXIT_SIGINT: "stopped by Ctrl-C; a training writes a checkpoint first",
    EXIT_SIGTERM: "stopped by SIGTERM; a training writes a checkpoint first",
}
EXIT_STATUS = "\n".join(["exit status:", *(f"  {status:<4} {meaning}" for status, meaning in STATUSES.items())])
EXAMPLES = """examples:
  uec train configs/llm.yaml
  uec COMMAND --help

tab completion in this shell, bash or zsh (for every shell: the same line in ~/.bashrc or ~/.zshrc, with the whole path):
  eval "$(.venv/bin/register-python-argcomplete uec)"
"""


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    whole = parser()
    if COMPLETING in os.environ:
        from uec.commands.completion import complete

        complete(whole)
    arguments = whole.parse_args(argv)
    try:
        return arguments.run(arguments)
    except BadInput as error:
        return _complain(error, EXIT_BAD_INPUT)
    except RunFailed as error:
        return _complain(error, EXIT_FAILURE)
    except KeyboardInterrupt:
        print("uec: stopped before training began; nothing was changed", file=sys.stderr)
        return EXIT_SIGINT


class Intermixed(argparse.ArgumentParser):
    """A command's arguments: options may stand before, between and behind the others."""

    _within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Twice, as `parse_known_intermixed_args` does: the options first, and what they left then."""
        if COMPLETING in os.environ:
            from uec.commands.completion import flags_first

            return super().parse_known_args(flags_first(args, self), namespace)
        if self._within:
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False


class Version(argparse.Action):
    """argparse's own wants the number at each start, and the package installed."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"uec-rl {version('uec-rl')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Of all commands."""
    whole = argparse.ArgumentParser(
        prog="uec",
        description="RL for reasoning models with unified entropy control",
        epilog=f"{EXAMPLES}\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action=Version, nargs=0, help="show program's version number and exit")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Intermixed)
    for command in COMMANDS:
        one = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=f"{command.EXAMPLES}\n{EXIT_STATUS}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(one)
        one.set_defaults(run=command.run)
    return whole


def script(argv: list[str] | None = None) -> int:
    """What the command `uec` calls: `main` in a process of its own."""
    end_quietly()
    return main(argv)


def _complain(error: Exception, status: int) -> int:
    lines = str(error).splitlines() or [type(error).__name__]
    print("\n".join([f"uec: {lines[0]}", *(f"     {line}" for line in lines[1:])]), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(script())
