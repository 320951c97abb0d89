"""Tab completion, without heavy imports.

argcomplete talks to the shell. The metavar of an argument selects its completer from COMPLETERS, so that a new command needs no code here;
all other arguments complete to files.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import get_origin

from uec.config.docs import Field, Section, find, schema
from uec.config.fields import without_none
from uec.config.presets import presets

Completions = dict[str, str]
"""The possible words with their meanings, which some shells show."""

YAML = (".yaml", ".yml")


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell's request and end the process; do nothing without a request."""
    import argcomplete

    _attach(parser)
    argcomplete.autocomplete(parser, always_complete_options=False)


def flags_first(words: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """Return the words with the flags first, because argparse expects no positional argument after a flag."""
    flags = {name for action in parser._actions if action.nargs == 0 for name in action.option_strings}
    return [*(word for word in words if word in flags), *(word for word in words if word not in flags)]


def _attach(parser: argparse.ArgumentParser) -> None:
    """Give the arguments of a parser and its subparsers their completers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _attach(command)
        elif completer := COMPLETERS.get(str(action.metavar)):
            action.completer = lambda prefix, completer=completer, **_: completer(prefix)  # type: ignore[attr-defined]


# --- settings


def overrides(prefix: str) -> Completions:
    """Complete section.field=value: first the sections, then the fields of a section, then the values of a field."""
    key, equals, value = prefix.partition("=")
    if not equals:
        found = _names(key)
        if len(found) > 1:  # if these are the fields of one section, omit the section
            found = {name: text for name, text in found.items() if not all(other.startswith(name) for other in found)}
        return {name if name.endswith(".") else f"{name}=": text for name, text in found.items()}
    field = find(key)
    return {f"{key}={word}": text for word, text in _values(field, value).items()} if isinstance(field, Field) else {}


def names(prefix: str) -> Completions:
    """Complete FIELD: sections and their fields."""
    return {name.rstrip("."): text for name, text in _names(prefix).items()}


def _names(prefix: str) -> Completions:
    """Return fields, and sections with a dot at the end, of one level; if only one section fits, return its fields as well."""
    outer = find(prefix.rpartition(".")[0]) if "." in prefix else schema()
    if not isinstance(outer, Section):
        return {}
    found = {field.key: field.text for field in outer.fields} | {f"{section.key}.": section.text for section in outer.sections}
    found = {name: text for name, text in found.items() if name.startswith(prefix)}
    only = next(iter(found)) if len(found) == 1 else ""
    return found | _names(only) if only.endswith(".") and only != prefix else found


def _values(field: Field, start: str) -> Completions:
    """Return the values of a field that begin with `start`, with others: argcomplete filters them."""
    if get_origin(without_none(field.hint)) is list:
        return _lists(field, start)
    found = presets() if field.key == "algorithm" else dict(field.choices)
    if field.hint is bool:
        found = {"true": "", "false": ""}
    elif isinstance(field.default, int | float | str) and not field.is_required:
        found.setdefault(str(field.default), "the default")
    if without_none(field.hint) is not field.hint:
        found["null"] = "unset"
    if field.metadata.get("path") and (start or not found):
        found |= paths(start, YAML if field.key == "algorithm" else None)
    return found


def _lists(field: Field, start: str) -> Completions:
    """Complete a list such as [a,b with the choices that it does not have yet, and with its closing bracket."""
    begin, comma, last = start.rpartition(",")
    used = begin.lstrip("[").split(",")
    unused = {name: meaning for name, meaning in field.choices.items() if name not in used}
    found = {f"{begin or '['}{comma}{name}": meaning for name, meaning in unused.items()}
    return found | ({f"{start}]": "end of the list"} if last.lstrip("[") in field.choices else {})


# --- files


def configs(prefix: str) -> Completions:
    """Complete CONFIG: YAML files; without a prefix also those in configs/."""
    return paths(prefix, YAML) | ({} if prefix else paths("configs/", YAML))


def runs(prefix: str) -> Completions:
    """Complete RUN: folders; without a prefix also the runs in runs/."""
    return paths(prefix, (), run_folders=True) | ({} if prefix else paths("runs/", (), run_folders=True))


def folders(prefix: str) -> Completions:
    """Complete MODEL, a checkpoint or DIR: folders."""
    return paths(prefix, ())


def paths(prefix: str, suffixes: tuple[str, ...] | None, run_folders: bool = False) -> Completions:
    """Return folders with a slash, and files with one of these suffixes (None: any). `run_folders`: run folders get no slash."""
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
            run = run_folders and Path(entry.path, "metrics.jsonl").is_file()
            found[name if run else f"{name}/"] = "a run" if run else ""
        elif suffixes is None or entry.name.endswith(suffixes):
            found[name] = ""
    return found


def benches(prefix: str) -> Completions:
    """Complete BENCH: the names of the benches."""
    from uec.commands.bench import has_benches

    if not has_benches():
        return {}
    from bench.run import NAMES, ON_REQUEST

    return dict.fromkeys([*NAMES, *ON_REQUEST], "")


def benchmarks(prefix: str) -> Completions:
    """Complete BENCHMARK: those whose layout `uec eval` knows."""
    from uec.eval.benchmarks import LAYOUTS

    return dict.fromkeys(LAYOUTS, "")


def data(prefix: str) -> Completions:
    """Complete FILE_OR_NAME: benchmarks, and data files."""
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
