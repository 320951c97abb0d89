"""The commands that README.md and docs/*.md tell people to type, and a folder in which they work."""

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
    """One of them, and where it stands."""

    doc: str
    text: str

    @property
    def words(self) -> list[str]:
        """Without comment, `VAR=...` in front, and the path to the virtual environment's programs."""
        words = shlex.split(self.text, comments=True)
        while "=" in words[0]:
            words.pop(0)
        return [words[0].rpartition("/")[2], *words[1:]]


def commands(project: Path) -> list[Command]:
    """All of them, in order. Each `&&` parts two; a `\\` at a line's end joins two lines."""
    found = []
    for doc in [project / "README.md", *sorted((project / "docs").glob("*.md"))]:
        text = doc.read_text()
        blocks = [body for language, body in BLOCK.findall(text) if language in ("", "sh", "bash", "console")]
        lines = [*"\n".join(blocks).replace("\\\n", " ").splitlines(), *INDENTED.findall(BLOCK.sub("", text))]
        for line in lines:
            for part in line.removeprefix("$ ").split(" && "):
                if PROGRAM.match(part.strip()):
                    found.append(Command(doc.name, part.strip()))
    return found


def write_files(project: Path, folder: Path) -> None:
    """The files that the docs show, by the name in their first line."""
    for doc in sorted((project / "docs").glob("*.md")):
        for _, body in BLOCK.findall(doc.read_text()):
            if name := FILE.match(body):
                (folder / name[1]).write_text(body)
    readme = (project / "README.md").read_text()
    for language, body in BLOCK.findall(readme):
        if language == "yaml":
            (folder / "my.yaml").write_text(body)
        if language == "python":
            (folder / "my_reward.py").write_text(body)
