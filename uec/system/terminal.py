"""What a command prints as its result: with colours on a terminal, plain for a file, a pipe or a test."""

import os
import sys

from rich.console import Console, RenderableType
from rich.text import Text

PLAIN_WIDTH = 120


def show(*parts: RenderableType, wrap: bool = True) -> None:
    """Print to stdout. A reader that has enough (`| head`) is no failure."""
    terminal = sys.stdout.isatty()
    console = Console(
        width=None if terminal else PLAIN_WIDTH, color_system="auto" if terminal else None, highlight=False, markup=False, emoji=False
    )
    with console.capture() as captured:
        for part in parts:
            console.print(part, soft_wrap=not wrap)
    text = captured.get()
    if not terminal:
        text = "".join(f"{line.rstrip()}\n" for line in text.split("\n")[:-1])
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def line(*pieces: tuple[str, str]) -> Text:
    """One line of (text, style) pieces."""
    return Text.assemble(*pieces, no_wrap=True, end="\n")
