"""The commands that README.md and docs/ tell people to type, and the files that they show."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (uec .*)$", re.MULTILINE)
PROGRAM = re.compile(
    r"^(?:\w+=\S+ )*(?:\.venv/bin/|\$PWD/\.venv/bin/)?(make|uec|ray|python|pip|mkdir|wandb|docker|kubectl|sbatch|helm|srun)(?=\s|$)"
)
FILE = re.compile(r"# ([\w.]+\.(?:py|yaml))\b.*\n")


@dataclass(frozen=True)
class Command:
    """A command, and the page that shows it."""

    doc: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words, without comment, leading `VAR=...` and the path of the virtual environment's programs."""
        words = shlex.split(self.text, comments=True)
        while "=" in words[0]:
            words.pop(0)
        return [words[0].rpartition("/")[2], *words[1:]]


def pages(project: Path) -> list[Path]:
    """Return README.md and every page below docs/."""
    return [project / "README.md", *sorted((project / "docs").rglob("*.md"))]


def commands(project: Path) -> list[Command]:
    """Return all commands in their order. `&&` separates two commands; a `\\` at the end of a line joins two lines."""
    found = []
    for doc in pages(project):
        text = doc.read_text()
        blocks = [body for language, body in BLOCK.findall(text) if language in ("", "sh", "bash", "console")]
        lines = [*"\n".join(blocks).replace("\\\n", " ").splitlines(), *INDENTED.findall(BLOCK.sub("", text))]
        for line in lines:
            for part in line.removeprefix("$ ").split(" && "):
                if PROGRAM.match(part.strip()):
                    found.append(Command(doc.name, part.strip()))
    return found


def write_files(project: Path, folder: Path) -> None:
    """Write the files that the pages show, by the name in their first line; README.md's come first where two pages show one name."""
    files: dict[str, str] = {}
    for doc in pages(project):
        for _, body in BLOCK.findall(doc.read_text()):
            if name := FILE.match(body):
                files.setdefault(name[1], body)
    for name, body in files.items():
        (folder / name).write_text(body)
