"""docs/command-line.md, made of what `--help` says: `python -m uec.commands.command_docs` prints it."""

import os
from argparse import ArgumentParser
from collections.abc import Iterator

from uec.commands.cli import COMMANDS, STATUSES, parser

WIDTH = "100"

HEAD = """# Command line

Made by `python -m uec.commands.command_docs > docs/command-line.md`; `uec COMMAND --help` says the same of one
command. `uec` is `.venv/bin/uec`, or `uec` once `source .venv/bin/activate` was said. Settings (`section.field=value`) are explained in
[config.md](config.md)."""

COMPLETION = """## Tab completion

```
eval "$(.venv/bin/register-python-argcomplete uec)"                   # bash and zsh
.venv/bin/register-python-argcomplete --shell fish uec | source       # fish
```

That is for one shell. For all of them the line goes into ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish, with the whole path of `.venv`.

It knows commands, options, config files, run folders, sections, fields (`rollout.te` + Tab), the words that a field takes
(`loss.aggregation=` + Tab) and the algorithms (`algorithm=` + Tab)."""


def document() -> Iterator[str]:
    """The lines of docs/command-line.md."""
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
    """What follows the command's name, as `--help` lists it, without what stands elsewhere in the document."""
    one = subparser(name)
    one.description = one.epilog = None
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH  # argparse breaks lines for the terminal
    try:
        return one.format_help().strip().splitlines()
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def examples(text: str) -> list[str]:
    """The command lines of an EXAMPLES."""
    return [line.strip() for line in text.splitlines() if line.strip().startswith("uec ")]


def subparser(name: str) -> ArgumentParser:
    """Of one command."""
    found = next(action for action in parser()._actions if isinstance(action.choices, dict))
    return found.choices[name]  # type: ignore[index]


if __name__ == "__main__":
    print("\n".join(document()))
