"""`uec config [FIELD]`."""

import argparse

NAME = "config"
HELP = "explain the settings"
DESCRIPTION = "Explain a setting: meaning, type, range, default, and its value in a config file."
EXAMPLES = """examples:
  uec config
  uec config exploration
  uec config exploration.temperature
  uec config exploration.temperature --file configs/llm.yaml
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `uec config`."""
    parser.add_argument("field", nargs="?", metavar="FIELD", help="a field (rollout.n) or a section (rollout); default: list the sections")
    parser.add_argument("--file", metavar="CONFIG", help="also show the values in this file, and their origins")


def run(arguments: argparse.Namespace) -> int:
    """Print the explanation."""
    from uec.config.explain import explain
    from uec.config.file import resolve_config
    from uec.system.terminal import show

    parts = explain(arguments.field or "", resolve_config(arguments.file, []) if arguments.file else None)
    show(*parts)
    return 0
