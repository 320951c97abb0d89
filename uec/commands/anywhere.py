"""Settings may stand anywhere on a command line, also behind options, which argparse alone does not allow."""

import argparse
import re
from typing import Any

OVERRIDE = re.compile(r"-*[a-z_]+(\.[a-z_0-9]+)*=", re.ASCII)


def settings_anywhere(parser: argparse.ArgumentParser) -> None:
    """Make a command's parser gather its positional arguments from wherever they stand."""

    def parse_known_args(args: Any = None, namespace: Any = None) -> Any:
        del parser.__dict__["parse_known_args"]  # argparse's own, which the next line calls
        try:
            return parser.parse_known_intermixed_args(args, namespace)
        finally:
            parser.__dict__["parse_known_args"] = parse_known_args

    parser.__dict__["parse_known_args"] = parse_known_args


def split_settings(words: list[str]) -> tuple[list[str], list[str]]:
    """Positional arguments into names and `section.field=value` settings, each in order."""
    settings = [word for word in words if OVERRIDE.match(word)]
    return [word for word in words if not OVERRIDE.match(word)], settings
