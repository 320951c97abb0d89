"""Paths that a user gives: what no file system takes is refused before it is looked up."""

import os
from pathlib import Path

from uec.brief import brief
from uec.errors import BadInput

LONGEST_PATH = 4000
LONGEST_PATH_PART = 255
"""Characters of a path, and bytes of a folder's or file's name, that file systems take."""


def longest_part(path: str) -> int:
    """Return the bytes of the longest name between two slashes."""
    return max(len(part) for part in os.fsencode(path).split(b"/"))


def check_path(path: str, argument: str) -> None:
    """Raise BadInput for a path that no file system takes, or that leads to itself; `argument` is its name on the command line."""
    if len(path) > LONGEST_PATH or longest_part(path) > LONGEST_PATH_PART:
        longest = f"{LONGEST_PATH_PART} bytes between two slashes, and {LONGEST_PATH} characters in all"
        raise BadInput(f"{argument} {brief(path)} is longer than a file system takes ({longest}); shorten it")
    try:
        Path(path).expanduser().resolve()
    except RuntimeError as error:  # a link that leads to itself, or a home folder that is unknown
        raise BadInput(f"{argument} {brief(path)} leads nowhere ({brief(str(error), 200)}); correct it") from error
