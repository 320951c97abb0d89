"""Tab completion: what may stand where, found without importing anything heavy.

argcomplete speaks with the shell. Which completer an argument gets is decided by its metavar, so that a new command says nothing of it:
what is not in COMPLETERS completes to files.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import get_origin

from uec.config.docs import Field, Section, find, schema
from uec.config.fields import inner
from uec.config.presets import presets

Completions = dict[str, str]
"""What may stand there, with what it means; shells that show descriptions do."""

YAML = (".yaml", ".yml")


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asked, and end the process; does nothing if none did."""
    import argcomplete

    _attach(parser)
    argcomplete.autocomplete(parser, always_complete_options=False)


def flags_first(words: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """The words with options that take no value in front: argparse would see no positional behind them."""
    flags = {name for action in parser._actions if action.nargs == 0 for name in action.option_strings}
    return [*(word for word in words if word in flags), *(word for word in words if word not in flags)]


def _attach(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _attach(command)
        elif completer := COMPLETERS.get(str(action.metavar)):
            action.completer = lambda prefix, completer=completer, **_: completer(prefix)  # type: ignore[attr-defined]


# --- settings


def overrides(prefix: str) -> Completions:
    """section.field=value: first the sections, then the fields of one, then the values of the field."""
    key, equals, value = prefix.partition("=")
    if not equals:
        found = _names(key)
        if len(found) > 1:  # one section's fields: not the section as well
            found = {name: text for name, text in found.items() if not all(other.startswith(name) for other in found)}
        return {name if name.endswith(".") else f"{name}=": text for name, text in found.items()}
    field = find(key)
    return {f"{key}={word}": text for word, text in _values(field, value).items()} if isinstance(field, Field) else {}


def names(prefix: str) -> Completions:
    """FIELD: sections and their fields."""
    return {name.rstrip("."): text for name, text in _names(prefix).items()}


def _names(prefix: str) -> Completions:
    """Fields and, with a dot behind them, sections, one level at a time; the fields at once where there is but one section."""
    outer = find(prefix.rpartition(".")[0]) if "." in prefix else schema()
    if not isinstance(outer, Section):
        return {}
    found = {field.key: field.text for field in outer.fields} | {f"{section.key}.": section.text for section in outer.sections}
    found = {name: text for name, text in found.items() if name.startswith(prefix)}
    only = next(iter(found)) if len(found) == 1 else ""
    return found | _names(only) if only.endswith(".") and only != prefix else found


def _values(field: Field, start: str) -> Completions:
    if get_origin(inner(field.hint)) is list:
        return _lists(field, start)
    found = presets() if field.key == "algorithm" else dict(field.words)
    if field.hint is bool:
        found = {"true": "", "false": ""}
    elif isinstance(field.default, int | float | str) and not field.is_required:
        found.setdefault(str(field.default), "the default")
    if inner(field.hint) is not field.hint:
        found["null"] = "unset"
    if field.limits.get("path") and (start or not found):
        found |= paths(start, YAML if field.key == "algorithm" else None)
    return found


def _lists(field: Field, start: str) -> Completions:
    """[a,b: each word once, and the end."""
    given, comma, _ = start.rpartition(",")
    used = given.lstrip("[").split(",")
    free = {word: text for word, text in field.words.items() if word not in used}
    found = {f"{given or '['}{comma}{word}": text for word, text in free.items()}
    return found | ({f"{start}]": "the end"} if start.rpartition(",")[2].lstrip("[") in field.words else {})


# --- files


def configs(prefix: str) -> Completions:
    """CONFIG: YAML files; before anything is typed, those of configs/ as well."""
    return paths(prefix, YAML) | ({} if prefix else paths("configs/", YAML))


def runs(prefix: str) -> Completions:
    """RUN: folders; before anything is typed, the runs in runs/ as well."""
    return paths(prefix, (), whole_runs=True) | ({} if prefix else paths("runs/", (), whole_runs=True))


def folders(prefix: str) -> Completions:
    """A model, a checkpoint, a place for results."""
    return paths(prefix, ())


def paths(prefix: str, suffixes: tuple[str, ...] | None, whole_runs: bool = False) -> Completions:
    """Folders, with `whole_runs` a run's without a slash behind it, and files with one of these suffixes (None: any)."""
    folder, slash, start = prefix.rpartition("/")
    try:
        entries = list(os.scandir(Path(f"{folder}{slash}" or ".").expanduser()))
    except OSError:
        return {}
    found = {}
    for entry in entries:
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start):
            continue
        name = f"{folder}{slash}{entry.name}"
        if entry.is_dir():
            run = whole_runs and Path(entry.path, "metrics.jsonl").is_file()
            found[name if run else f"{name}/"] = "a run" if run else ""
        elif suffixes is None or entry.name.endswith(suffixes):
            found[name] = ""
    return found


def benches(prefix: str) -> Completions:
    """BENCH: by name."""
    from uec.commands.bench import has_benches

    if not has_benches():
        return {}
    from bench.run import NAMES, ON_REQUEST

    return dict.fromkeys([*NAMES, *ON_REQUEST], "")


def benchmarks(prefix: str) -> Completions:
    """BENCHMARK: those whose layout `uec eval` knows."""
    from uec.eval.benchmarks import LAYOUTS

    return dict.fromkeys(LAYOUTS, "")


def data(prefix: str) -> Completions:
    """FILE_OR_NAME: benchmarks, and files of rows."""
    return benchmarks(prefix) | paths(prefix, (".jsonl", ".parquet"))


COMPLETERS: dict[str, Callable[[str], Completions]] = {
    "CONFIG": configs,
    "RUN": runs,
    "MODEL": folders,
    "MODEL_OR_CHECKPOINT": folders,
    "DIR": folders,
    "BENCH": benches,
    "BENCHMARK": benchmarks,
    "FILE_OR_NAME": data,
    "FIELD": names,
    "section.field=value": overrides,
}
