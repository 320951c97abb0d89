"""`uec config [FIELD]`."""

import argparse

NAME = "config"
HELP = "explain the settings"
DESCRIPTION = "Explain a setting: what it is, what it takes, its default, and its value in a config file."
EXAMPLES = """examples:
  uec config
  uec config exploration
  uec config exploration.temperature
  uec config exploration.temperature --file configs/llm.yaml
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `uec config`."""
    parser.add_argument("field", nargs="?", metavar="FIELD", help="a setting (rollout.n) or a section (rollout); none: the sections")
    parser.add_argument("--file", metavar="CONFIG", help="show the values in this config file, too, and where they come from")


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for."""
    from uec.config.explain import explain
    from uec.config.file import resolve_config
    from uec.system.terminal import show

    parts = explain(arguments.field or "", resolve_config(arguments.file, []) if arguments.file else None)
    show(*parts)
    return 0
