"""The documentation of each setting, from `uec/config/schema.py`: for `uec config`, tab completion and docs/config.md.

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
from uec.config.fields import range_text, type_text, without_none


@dataclass(frozen=True, slots=True)
class Field:
    """One setting."""

    key: str  # dotted
    hint: Any
    default: Any
    metadata: Mapping[str, Any]  # from uec/config/schema.py: range, choices, and what else the field takes
    text: str

    @property
    def choices(self) -> dict[str, str]:
        """Return the named values that the field takes, with their meanings ("" if the name is clear)."""
        return self.metadata.get("choices") or self.metadata.get("open_choices") or {}

    @property
    def is_closed(self) -> bool:
        """Return whether the field takes no other values than its choices."""
        return bool(self.metadata.get("choices"))

    @property
    def is_required(self) -> bool:
        return self.default == "???"

    @property
    def type(self) -> str:
        """Return the type in words, without the range."""
        return self.takes if "takes" in self.metadata else type_text(self.hint)

    @property
    def range(self) -> str:
        """Return the bounds of the number, or of each number in a list or mapping; "" if there are none."""
        bounds = range_text(self.metadata)
        return f"each {bounds}" if bounds and get_origin(without_none(self.hint)) in (list, dict) else bounds

    @property
    def takes(self) -> str:
        """Return type and range in words; the choices follow separately."""
        if takes := self.metadata.get("takes"):
            return f"one of these values, or {takes}" if self.choices else takes
        if self.is_closed:
            return "a list of these values" if get_origin(self.hint) is list else "one of these values"
        if not self.range:
            return self.type
        type_ = without_none(self.hint)
        return f"{type_text(type_)}, {self.range}{', or null' if type_ is not self.hint else ''}"


@dataclass(frozen=True, slots=True)
class Section:
    """A group of settings; the outermost section has the key ""."""

    key: str
    text: str
    fields: tuple[Field, ...]
    sections: tuple["Section", ...]

    def walk(self) -> Iterator["Section"]:
        """Yield this section and all sections in it."""
        yield self
        for section in self.sections:
            yield from section.walk()


@functools.cache
def schema() -> Section:
    """Return all settings as one section."""
    return _section(settings.Config, "", _docstrings())


def find(key: str) -> Field | Section | None:
    """Return the section or field of this name, or None; the name of a mapping's entry gives the mapping."""
    for section in schema().walk():
        if section.key == key and key:
            return section
        for field in section.fields:
            if key == field.key or (get_origin(field.hint) is dict and key.rpartition(".")[0] == field.key):
                return field
    return None


def default_text(field: Field) -> str:
    """Return the default as YAML in one line."""
    from uec.config.print import flow

    return "required" if field.is_required else flow(field.default)


def _section(cls: type, key: str, docstrings: dict[str, str]) -> Section:
    """Return the section that a class of the schema defines."""
    hints, own_fields, sections = get_type_hints(cls), [], []
    for spec in dataclasses.fields(cls):
        name = f"{key}.{spec.name}".lstrip(".")
        if dataclasses.is_dataclass(hints[spec.name]):
            sections.append(_section(hints[spec.name], name, docstrings))
        else:
            default = spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()
            own_fields.append(Field(name, hints[spec.name], default, spec.metadata, docstrings[f"{cls.__name__}.{spec.name}"]))
    return Section(key, docstrings[cls.__name__], tuple(own_fields), tuple(sections))


def _docstrings() -> dict[str, str]:
    """Return the docstrings of the schema's classes and, by Class.name, of their fields, which Python discards; each in one line."""
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

`python -m uec.config.docs > docs/config.md` generates this page from `uec/config/schema.py`. `uec config FIELD` prints the same for one
field.

```yaml
# my.yaml
extends: configs/llm.yaml         # optional: the config file that this file changes, relative to this file
algorithm: uec                    # optional: the name of a file in configs/algorithm, or a path
rollout: {n: 16}                  # section: {field: value}
learner:
  lr: 1e-6
```

```
uec train my.yaml rollout.n=4 'tracking=[console, wandb]'     # section.field=value, with the value in YAML
uec train my.yaml rollout.n=4 --print-config                  # print all settings and the origin of each value
uec train my.yaml rollout.n=4 --dry-run                       # check everything, start nothing
uec config rollout.n --file my.yaml                           # explain a field and print its value in a file
```

A value can come from several places. The first one in this list wins:

1. settings on the command line, the last one first;
2. the preset that `algorithm=` on the command line names;
3. the config file;
4. the file that it extends with `extends`;
5. the preset that the file names with `algorithm`;
6. the defaults below.

A list replaces a list, and a mapping (`reward.weights`) is merged. Text is literal: environment variables are not substituted. The output
of `--print-config` is a config file, and so is `runs/NAME/config.yaml`.

Unknown names, values of the wrong type or out of range, and contradicting fields are refused before anything starts. The message names
the fields, the place and the fix, and the exit status is 2 ([all exit statuses](command-line.md#exit-status)).

The value `null` unsets a field that takes it. Relative paths of models and data start from the working directory. A field with a fixed set
of values lists them with their meanings; the first one is the default."""


def document() -> Iterator[str]:
    """Yield the lines of docs/config.md."""
    yield HEAD
    yield ""
    yield "| section | contents |"
    yield "|---|---|"
    for section in schema().walk():
        if section.key:
            yield f"| [`{section.key}`](#{section.key.replace('.', '')}) | {_prose(section.text)} |"
    for section in schema().walk():
        yield ""
        yield f"## {section.key or 'Outside the sections'}"
        yield ""
        if section.key:
            yield _prose(section.text)
            yield ""
        yield "| field | default | takes | meaning |"
        yield "|---|---|---|---|"
        for field in section.fields:
            default = "required" if field.is_required else f"`{default_text(field)}`"
            yield f"| `{field.key}` | {default} | {_takes(field)} | {_prose(field.text)} |"


def _takes(field: Field) -> str:
    """Return the cell with what the field takes, one choice per line."""
    choices = [f"`{name}`: {_prose(meaning)}" if meaning else f"`{name}`" for name, meaning in field.choices.items()]
    return "<br>".join([_prose(field.takes), *choices])


def _prose(text: str) -> str:
    """Return a text as the cell of a Markdown table: escape special characters except in code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"[<*\\]", r"\\\g<0>", part) for part in parts).replace("|", r"\|")


if __name__ == "__main__":
    print("\n".join(document()))
