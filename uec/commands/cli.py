# PYTHON_ARGCOMPLETE_OK
"""The command line: run a command, and turn its result into an exit status. Each command is a file in `uec/commands`."""

import argparse
import os
import select
import sys
import tempfile
import traceback
from importlib.metadata import version
from typing import Any, NoReturn

from uec.brief import brief, clipped
from uec.commands import bench, config, doctor, eval, export, report, train
from uec.errors import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM, BadInput, RunFailed
from uec.system.process_env import discard_output, discard_stderr_at_exit

COMPLETING = "_ARGCOMPLETE"
"""Environment variable that a shell sets to ask for completions."""

MOST_LINES = 40
"""Lines of an error message."""

COMMANDS = (train, eval, report, export, doctor, bench, config)
STATUSES = {
    0: "success",
    EXIT_FAILURE: "failure, explained by a message; checkpoints are kept",
    EXIT_BAD_INPUT: "bad input; nothing was started",
    EXIT_SIGHUP: "the terminal was closed; training writes a checkpoint first",
    EXIT_SIGINT: "stopped by Ctrl-C; training writes a checkpoint first",
    EXIT_SIGTERM: "stopped by SIGTERM; training writes a checkpoint first",
}
EXIT_STATUS = "\n".join(["exit status:", *(f"  {status:<4} {meaning}" for status, meaning in STATUSES.items())])
EXAMPLES = """examples:
  uec train configs/llm.yaml
  uec COMMAND --help

tab completion in this shell, bash or zsh (for all shells, add this line with the absolute path to ~/.bashrc or ~/.zshrc):
  eval "$(.venv/bin/register-python-argcomplete uec)"
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit status."""
    main_parser = parser()
    if COMPLETING in os.environ:
        from uec.commands.completion import complete

        complete(main_parser)
    arguments = main_parser.parse_args(argv)
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BadInput as error:
        return _report(error, EXIT_BAD_INPUT)
    except RunFailed as error:
        return _report(error, EXIT_FAILURE)
    except KeyboardInterrupt:
        print("uec: stopped before training began; nothing was changed", file=sys.stderr)
        return EXIT_SIGINT
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            discard_output(sys.stdout.fileno())  # what Python still holds is flushed at exit
            return EXIT_FAILURE
        return _report(_unexpected(error), EXIT_FAILURE)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are short, however long the arguments are."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message; exit with status 2."""
        super().error(clipped(message))


class IntermixedParser(Parser):
    """A parser that takes options before, between and after the positional arguments."""

    _nested = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse twice, as `parse_known_intermixed_args` does: first the options, then the remaining arguments."""
        if COMPLETING in os.environ:
            from uec.commands.completion import flags_first

            return super().parse_known_args(flags_first(args, self), namespace)
        if self._nested:
            return super().parse_known_args(args, namespace)
        self._nested = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._nested = False


class Version(argparse.Action):
    """The action of `--version`. Unlike argparse's, it looks up the version only when asked, so that an uninstalled package works."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"uec-rl {version('uec-rl')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    main_parser = Parser(
        prog="uec",
        description="RL for reasoning models with unified entropy control",
        epilog=f"{EXAMPLES}\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main_parser.add_argument("--version", action=Version, nargs=0, help="show program's version number and exit")
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=IntermixedParser)
    for command in COMMANDS:
        command_parser = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=f"{command.EXAMPLES}\n{EXIT_STATUS}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(command_parser)
        command_parser.set_defaults(run=command.run)
    return main_parser


def script(argv: list[str] | None = None) -> int:
    """Run `main` as the program `uec`."""
    discard_stderr_at_exit()
    return main(argv)


def _reader_has_left() -> bool:
    """Return whether stdout is a pipe that nobody reads any more, as after `uec config | head -1`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _unexpected(error: Exception) -> RunFailed:
    """Write the traceback of an error that no code foresaw to a file that only this user can read; return what to report."""
    descriptor, name = tempfile.mkstemp(prefix="uec-error-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"uec {brief(sys.argv[1:], 2000)}\n\n{''.join(traceback.format_exception(error))}")
    return RunFailed(f"unexpected {type(error).__name__}: {brief(str(error), 300)}; this is a bug, please report it with {name}")


def _report(error: Exception, status: int) -> int:
    """Print an error to stderr, at most a screen of it; return the exit status."""
    lines = [clipped(line) for line in str(error).splitlines()] or [type(error).__name__]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES - 1 :] = [f"... and {len(lines) - MOST_LINES + 1} more"]
    print("\n".join([f"uec: {lines[0]}", *(f"     {line}" for line in lines[1:])]), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(script())
