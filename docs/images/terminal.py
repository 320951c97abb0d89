"""Make an image of a terminal in which a command runs: `python docs/images/terminal.py OUT.svg COLUMNS LINES WHEN COMMAND...`.

The command gets a pseudo terminal of that size; pyte (`pip install pyte==0.8.2`) keeps its screen, and rich draws it as SVG at the
first moment when the screen shows the regular expression WHEN. The image names no font on the network.

    python docs/images/terminal.py docs/images/console.svg 100 32 'step +45/' .venv/bin/uec train configs/llm.yaml run.name=llm-uec
"""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

PAUSE_S = 0.05  # after this time without output, the screen is complete
GREY = 90  # what stands for dim, which pyte does not know
NAMES = {"brown": "yellow"}  # pyte's names of colours that rich calls otherwise


class Screen(pyte.Screen):
    def select_graphic_rendition(self, *attributes: int, **flags: bool) -> None:
        super().select_graphic_rendition(*(GREY if one == 2 else one for one in attributes), **flags)


def shot(columns: int, lines: int, when: str, command: list[str]) -> tuple[list[Text], int]:
    """Return the screen at the moment `when`, and the command's exit status."""
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    screen, kept = Screen(columns, lines), None
    stream = pyte.ByteStream(screen)
    run = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm-256color"})
    os.close(theirs)
    while True:
        try:
            said = os.read(terminal, 65536)
        except OSError:  # Linux: the other side has closed
            break
        stream.feed(said)
        if select.select([terminal], [], [], PAUSE_S)[0]:
            continue
        if kept is None and when != "$" and re.search(when, "\n".join(screen.display)):
            kept = drawn(screen)
    return kept or drawn(screen), run.wait()


def drawn(screen: pyte.Screen) -> list[Text]:
    """Return the screen's lines as rich's texts, without empty ones at the end."""
    lines = []
    for y in range(screen.lines):
        line = Text()
        for x in range(screen.columns):
            cell = screen.buffer[y][x]
            line.append(cell.data, Style(color=_colour(cell.fg), bgcolor=_colour(cell.bg), bold=cell.bold))
        lines.append(line)
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return lines


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    return f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else NAMES.get(name, name.replace("bright", "bright_"))


def svg(lines: list[Text], columns: int, title: str) -> str:
    console = Console(record=True, width=columns, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for line in lines:
        console.print(line, no_wrap=True, crop=True)
    text = console.export_svg(title=title)
    return re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")


def main() -> int:
    out, columns, lines, when, *command = sys.argv[1:]
    screen, status = shot(int(columns), int(lines), when, command)
    title = " ".join(["uec", *command[command.index("train") : command.index("train") + 2]]) if "train" in command else " ".join(command)
    Path(out).write_text(svg(screen, int(columns), title), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
