"""What each setting is, read off `uec/config/schema.py`: for `uec config`, tab completion and docs/config.md.

`python -m uec.config.docs` prints docs/config.md.
"""

import ast
import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from uec.config import schema as settings
from uec.config.fields import in_words, inner, range_in_words


@dataclass(frozen=True, slots=True)
class Field:
    """One setting."""

    key: str  # dotted
    hint: Any
    default: Any
    limits: Mapping[str, Any]  # the metadata of uec/config/schema.py
    text: str

    @property
    def words(self) -> dict[str, str]:
        """The words that it takes, each with its meaning ("" where the word says it)."""
        return self.limits.get("choices") or self.limits.get("words") or {}

    @property
    def is_closed(self) -> bool:
        """It takes no other words than these."""
        return bool(self.limits.get("choices"))

    @property
    def is_required(self) -> bool:
        return self.default == "???"

    @property
    def type(self) -> str:
        """What it takes, without its range."""
        return self.takes if "takes" in self.limits else in_words(self.hint)

    @property
    def range(self) -> str:
        """The bounds of the number, or of each number in it; "" if there are none."""
        bounds = range_in_words(self.limits)
        return f"each {bounds}" if bounds and get_origin(inner(self.hint)) in (list, dict) else bounds

    @property
    def takes(self) -> str:
        """Type and range in one; the words stand beside it."""
        if takes := self.limits.get("takes"):
            return f"one of these words, or {takes}" if self.words else takes
        if self.is_closed:
            return "a list of these words" if get_origin(self.hint) is list else "one of these words"
        if not self.range:
            return self.type
        return f"{in_words(inner(self.hint))}, {self.range}{', or null' if inner(self.hint) is not self.hint else ''}"


@dataclass(frozen=True, slots=True)
class Section:
    """A group of settings; the outermost has the key ""."""

    key: str
    text: str
    fields: tuple[Field, ...]
    sections: tuple["Section", ...]

    def all(self) -> Iterator["Section"]:
        """This one and those inside it."""
        yield self
        for section in self.sections:
            yield from section.all()


@functools.cache
def schema() -> Section:
    """All settings."""
    return _section(settings.Config, "", _docstrings())


def find(key: str) -> Field | Section | None:
    """The section or the field of that name; an entry of a mapping is the mapping's."""
    for section in schema().all():
        if section.key == key and key:
            return section
        for field in section.fields:
            if key == field.key or (get_origin(field.hint) is dict and key.rpartition(".")[0] == field.key):
                return field
    return None


def default_in_words(field: Field) -> str:
    """As YAML in one line."""
    from uec.config.print import flow

    return "required" if field.is_required else flow(field.default)


def _section(cls: type, key: str, docstrings: dict[str, str]) -> Section:
    hints, own, inside = get_type_hints(cls), [], []
    for spec in dataclasses.fields(cls):
        name = f"{key}.{spec.name}".lstrip(".")
        if dataclasses.is_dataclass(hints[spec.name]):
            inside.append(_section(hints[spec.name], name, docstrings))
        else:
            default = spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()
            own.append(Field(name, hints[spec.name], default, spec.metadata, docstrings[f"{cls.__name__}.{spec.name}"]))
    return Section(key, docstrings[cls.__name__], tuple(own), tuple(inside))


def _docstrings() -> dict[str, str]:
    """Of classes and, by Class.name, of fields, for which Python keeps none; each in one line."""
    found = {}
    for cls in ast.parse(Path(settings.__file__).read_text(encoding="utf-8")).body:
        if not isinstance(cls, ast.ClassDef):
            continue
        found[cls.name] = ast.get_docstring(cls) or ""
        for above, below in zip(cls.body, cls.body[1:], strict=False):
            if isinstance(above, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[f"{cls.name}.{ast.unparse(above.target)}"] = str(below.value.value)
    return {name: " ".join(text.split()) for name, text in found.items()}


# --- docs/config.md

HEAD = """# Configuration

Made by `python -m uec.config.docs > docs/config.md` from `uec/config/schema.py`; `uec config FIELD` says the same of one field.

```yaml
# my.yaml
extends: configs/llm.yaml         # optional: a file that this one changes, its path seen from this file
algorithm: uec                    # optional: a file of configs/algorithm, or a path
rollout: {n: 16}                  # section: {field: value}
learner:
  lr: 1e-6
```

```
uec train my.yaml rollout.n=4 'tracking=[console, wandb]'     # section.field=value, a value as in YAML
uec train my.yaml rollout.n=4 --print-config                  # all settings, and where each comes from
uec train my.yaml rollout.n=4 --dry-run                       # checks everything, starts nothing
uec config rollout.n --file my.yaml                           # what a field is, and its value in a file
```

What counts, highest first: settings on the command line, the last before the others; `algorithm=` on the command line; the file; the
file that it `extends`; the algorithm that the file names; the defaults below. A list replaces a list; a mapping (`reward.weights`) is
merged. Text is literal, nothing is filled in from the environment. What `--print-config` prints is a config file itself, and so is
`runs/NAME/config.yaml`.

A name that does not exist, a value of the wrong type or out of its range, and fields that contradict each other are refused before
anything starts: the message names the fields, the place and the way out, and the exit status is 2
([all of them](command-line.md#exit-status)).

A field that takes `null` is unset by it. Relative paths of data and models are seen from the working directory. Fields that take one of a
few words list them with their meaning; the first is the default."""


def document() -> Iterator[str]:
    """The lines of docs/config.md."""
    yield HEAD
    yield ""
    yield "| section | what it holds |"
    yield "|---|---|"
    for section in schema().all():
        if section.key:
            yield f"| [`{section.key}`](#{section.key.replace('.', '')}) | {_prose(section.text)} |"
    for section in schema().all():
        yield ""
        yield f"## {section.key or 'Outside the sections'}"
        yield ""
        if section.key:
            yield _prose(section.text)
            yield ""
        yield "| field | default | takes | what it is |"
        yield "|---|---|---|---|"
        for field in section.fields:
            default = "required" if field.is_required else f"`{default_in_words(field)}`"
            yield f"| `{field.key}` | {default} | {_takes(field)} | {_prose(field.text)} |"


def _takes(field: Field) -> str:
    words = [f"`{word}`: {_prose(text)}" if text else f"`{word}`" for word, text in field.words.items()]
    return "<br>".join([_prose(field.takes), *words])


def _prose(text: str) -> str:
    """As a cell of a table: what Markdown would take for its own is escaped, but for code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"[<*\\]", r"\\\g<0>", part) for part in parts).replace("|", r"\|")


if __name__ == "__main__":
    print("\n".join(document()))
