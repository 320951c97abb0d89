"""Generate docs/command-line.md from the commands' help: `python -m uec.commands.command_docs` prints it."""

import os
from argparse import ArgumentParser
from collections.abc import Iterator

from uec.commands.cli import COMMANDS, STATUSES, parser

WIDTH = "100"

HEAD = """# Command line

`python -m uec.commands.command_docs > docs/command-line.md` generates this page. `uec COMMAND --help` prints the same for one command.

The program is `.venv/bin/uec`, or `uec` after `source .venv/bin/activate`. [config.md](config.md) explains the settings
(`section.field=value`)."""

COMPLETION = """## Tab completion

```
eval "$(.venv/bin/register-python-argcomplete uec)"                   # bash and zsh
.venv/bin/register-python-argcomplete --shell fish uec | source       # fish
```

This enables it in one shell. For all shells, add the line with the absolute path of `.venv` to ~/.bashrc, ~/.zshrc or
~/.config/fish/config.fish.

It completes commands, options, files, run folders, settings (`rollout.te` + Tab), their values (`loss.aggregation=` + Tab) and
algorithms (`algorithm=` + Tab)."""


def document() -> Iterator[str]:
    """Yield the lines of docs/command-line.md."""
    yield HEAD
    yield ""
    yield "| command | what it does |"
    yield "|---|---|"
    for command in COMMANDS:
        yield f"| [`uec {command.NAME}`](#uec-{command.NAME}) | {command.HELP.replace('%%', '%')} |"
    for command in COMMANDS:
        yield ""
        yield f"## uec {command.NAME}"
        yield ""
        yield command.DESCRIPTION.replace("%%", "%")
        yield ""
        yield "```"
        yield from usage(command.NAME)
        yield "```"
        yield ""
        yield "```"
        yield from examples(command.EXAMPLES)
        yield "```"
    yield ""
    yield "## Exit status"
    yield ""
    yield "| status | meaning |"
    yield "|---|---|"
    for status, meaning in STATUSES.items():
        yield f"| {status} | {meaning} |"
    yield ""
    yield COMPLETION


def usage(name: str) -> list[str]:
    """Return the usage and the arguments of a command as `--help` lists them, without description and examples."""
    command_parser = _command_parser(name)
    command_parser.description = command_parser.epilog = None
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH  # argparse breaks lines at this width
    try:
        return command_parser.format_help().strip().splitlines()
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def examples(text: str) -> list[str]:
    """Return the command lines in a command's EXAMPLES."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith("uec ")]


def _command_parser(name: str) -> ArgumentParser:
    """Return the parser of one command."""
    commands = next(action for action in parser()._actions if isinstance(action.choices, dict))
    return commands.choices[name]  # type: ignore[index]


if __name__ == "__main__":
    print("\n".join(document()))
