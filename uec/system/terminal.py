"""The output of a command: with colours on a terminal, plain in a file, a pipe or a test."""

import sys

from rich.console import Console, RenderableType
from rich.text import Text

from uec.system.process_env import discard_output

PLAIN_WIDTH = 120


def show(*parts: RenderableType, wrap: bool = True) -> None:
    """Print to stdout. A closed pipe (`| head`) is not an error."""
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
        discard_output(sys.stdout.fileno())


def line(*pieces: tuple[str, str]) -> Text:
    """Return one line of (text, style) pieces."""
    return Text.assemble(*pieces, no_wrap=True, end="\n")
