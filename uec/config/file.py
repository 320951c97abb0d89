"""Read YAML files and dotted overrides into a typed Config, and write a Config to a file.

Later sources win over earlier ones: the defaults of `uec/config/schema.py`; the algorithm preset that the file names; the file, a parent
(`extends:`) before its child; the preset that the command line names; the other overrides in their order.
Texts are literal: `${...}` is not substituted, so that no secret of the environment gets into a saved config.
"""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from uec.brief import brief, clipped
from uec.config.fields import did_you_mean, fields, is_section, takes_texts, type_of, type_text, without_none
from uec.config.presets import folders, presets
from uec.config.schema import Config
from uec.config.yaml_nodes import check_numbers, compose, foreign_digits, read_text
from uec.errors import BadInput

SAVED_HEADER = "# uec-rl: all the settings of this run."
COMMAND_LINE = "command line"
NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of one field, and its origin."""

    key: str  # dotted
    value: Any
    where: str  # file and line, or the command line
    entries: tuple[tuple[str, str], ...] = ()  # names and origins of the entries of a mapping


@dataclass(frozen=True, slots=True)
class Source:
    """The settings and problems of one file or of the command line."""

    settings: list[Setting]
    problems: list[str]
    algorithm: Setting | None = None
    extends: str | None = None
    preset: bool = False  # an algorithm's file


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings of a run, and the origin of each value."""

    config: Config
    origins: dict[str, str]
    """Origins by dotted name, with the entries of mappings; all other fields have the defaults of `uec/config/schema.py`."""


def load_config(path: str | Path, overrides: list[str]) -> Config:
    """Return the settings of a run. Raises BadInput that names every unknown key, wrong type and missing field with its file and line."""
    return resolve_config(path, overrides).config


def resolve_config(path: str | Path, overrides: list[str]) -> Resolved:
    """Return the same as `load_config`, with the origin of each value."""
    files = _chain(Path(path))
    command = _read_overrides(overrides)
    in_file = next((source.algorithm for source in reversed(files) if source.algorithm), None)
    in_effect = in_file or Setting("algorithm", Config.algorithm, str(path))
    algorithm, sources = _preset(in_effect, Path(path))
    sources += files
    if command.algorithm:
        algorithm, preset_sources = _preset(command.algorithm, Path(path))
        sources += preset_sources
    sources.append(command)
    problems = [problem for source in sources for problem in source.problems]
    tree, origins = OmegaConf.structured(Config), {}
    for source in sources:
        for setting in source.settings:
            problems.extend(_apply(tree, setting))
            for name, where in [(setting.key, setting.where), *((f"{setting.key}.{entry}", where) for entry, where in setting.entries)]:
                origins[name] = f"preset {where}" if source.preset else where
    tree.algorithm = _escaped(algorithm)
    if command.algorithm or in_file:
        origins["algorithm"] = (command.algorithm or in_effect).where
    for key in sorted(OmegaConf.missing_keys(tree)):
        problems.append(f"{path}: {key} is required; set it in the file, or as {key}=... on the command line")
    if problems:
        raise BadInput("\n".join(dict.fromkeys(problems)))
    return Resolved(OmegaConf.to_object(tree), origins)  # type: ignore[arg-type]


def config_text(cfg: Config, path: str | Path) -> str:
    """Return all settings as the text of the file `path`; `load_config` of that file returns the same settings.

    `run.overwrite` and `run.resume` get their defaults, so that a second start from this file neither deletes nor resumes.
    """
    saved = dataclasses.replace(cfg, run=dataclasses.replace(cfg.run, overwrite=False, resume="never"))
    body = yaml.dump(dataclasses.asdict(saved), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    hint = f"# Resume from the newest checkpoint: uec train {path} run.resume=auto"
    return f"{SAVED_HEADER}\n{hint}\n{body}"


class Dumper(yaml.SafeDumper):
    """A YAML dumper that quotes texts with line breaks or control characters; PyYAML would read some of them back differently."""


def _represent_text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, None if text.isprintable() else '"')


Dumper.add_representer(str, _represent_text)


# --- files


def _chain(path: Path, child: tuple[Path, ...] = ()) -> list[Source]:
    """Return the file and the files that it extends, parents first."""
    if child and path.resolve() in [known.resolve() for known in child]:
        raise BadInput(f"{child[0]}: `extends` is circular: {' -> '.join(str(p) for p in (*child, path))}")
    source = _read_file(path, child[-1] if child else None)
    if source.extends is None:
        return [source]
    return [*_chain(path.parent / source.extends, (*child, path)), source]


def _read_file(path: Path, child: Path | None) -> Source:
    """Return the settings and problems of one file. `child`: the file that extends this one."""
    subject = f"{child}: extends {path}, which" if child else f"config file {path}"
    text = read_text(path, subject)
    try:
        node = compose(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{_place(path, error)}: not valid YAML: {_cause(error)}") from error
    if node is None or node.tag == NULL:
        raise BadInput(f"{subject} is empty; expected settings such as `model: {{path: ...}}`")
    if not isinstance(node, yaml.MappingNode):
        raise BadInput(f"{path}, line {node.start_mark.line + 1}: expected `section: {{field: value}}`, found {_describe(node)}")
    source = Source([], [])
    _walk(node, "", path, source)
    top = {setting.key: setting for setting in source.settings if setting.key in ("extends", "algorithm")}
    extends = top.get("extends")
    if extends and not (isinstance(extends.value, str) and extends.value):
        raise BadInput(f"{extends.where}: extends must name a config file, got {extends.value!r}")
    rest = [setting for setting in source.settings if setting.key not in top]
    return Source(rest, source.problems, top.get("algorithm"), extends.value if extends else None)


def _preset(algorithm: Setting, config: Path) -> tuple[str, list[Source]]:
    """Return the name of the algorithm (or the absolute path of its file) and its files. Names are looked up in the `algorithm` folders.

    A preset that only the folder beside the config has gets its absolute path, too, because a saved config lies in another folder and
    would not find the name.
    """
    name = algorithm.value
    if not isinstance(name, str) or not name:
        raise BadInput(f"{algorithm.where}: algorithm must be a name such as uec, got {name!r}")
    if _is_path(name):
        places = [Path(name)] if algorithm.where == COMMAND_LINE else [config.parent / name, Path(name)]
    else:
        places = [folder / f"{name}.yaml" for folder in folders(config.parent)]
    path = next((place for place in places if place.is_file()), None)
    if path is None and _is_path(name):
        raise BadInput(f"{algorithm.where}: algorithm={name}: no such file; looked for {' and '.join(map(str, places))}")
    if path is None:
        known = ", ".join(presets(config.parent))
        raise BadInput(f"{algorithm.where}: algorithm={name} is unknown; there is {known}, or give the path of a .yaml file")
    sources = _chain(path)
    nested = next((source.algorithm for source in sources if source.algorithm), None)
    if nested:
        raise BadInput(f"{nested.where}: an algorithm's file cannot name another `algorithm`; use `extends`")
    elsewhere = None if _is_path(name) else next((place for place in places[1:] if place.is_file()), None)
    is_global = elsewhere is not None and elsewhere.samefile(path)
    return name if is_global else str(path.resolve()), [dataclasses.replace(source, preset=True) for source in sources]


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith((".yaml", ".yml"))


# --- the command line


def _read_overrides(overrides: list[str]) -> Source:
    """Return the settings and problems of `section.field=value` words."""
    source = Source([], [])
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.strip().lstrip("-")
        if not equals or not key:
            source.problems.append(f"{COMMAND_LINE}: {text!r} is not an override; expected section.field=value, e.g. rollout.n=8")
            continue
        hint = type_of(key)
        if takes_texts(hint) and value.lstrip().startswith("["):
            pass  # a list is YAML
        elif without_none(hint) is str and not re.fullmatch(r"""\s*(".*"|'.*'|null|~|)\s*""", value, re.DOTALL):
            source.settings.append(Setting(key, value, COMMAND_LINE))  # a text with braces or colons may not be valid YAML
            continue
        try:
            node = compose(value) or yaml.ScalarNode(NULL, "")
            _walk_value(node, key, None, COMMAND_LINE, source)
        except yaml.YAMLError as error:
            source.problems.append(f"{COMMAND_LINE}: {text!r}: the value is not valid YAML: {_cause(error)}")
    algorithms = [setting for setting in source.settings if setting.key == "algorithm"]
    rest = [setting for setting in source.settings if setting.key != "algorithm"]
    return Source(rest, source.problems, algorithms[-1] if algorithms else None)


# --- YAML nodes; `file` is None for the command line


def _walk(node: yaml.MappingNode, prefix: str, file: Path | None, source: Source) -> None:
    """Add the settings of a section to `source`; `prefix` is "" or ends in a dot."""
    for key_node, value in _pairs(node, file, source):
        key, where = f"{prefix}{key_node.value}", _at(file, key_node)
        if key == "extends":
            source.settings.append(Setting(key, _value(value, str), where))
        else:
            _walk_value(value, key, file, where, source)


def _walk_value(node: yaml.Node, key: str, file: Path | None, where: str, source: Source) -> None:
    """Add the settings of a field or of a section to `source`."""
    hint = type_of(key)
    if hint is None:
        source.problems.append(f"{where}: unknown key {key}{did_you_mean(key)}")
    elif not is_section(key):
        pairs = _pairs(node, file, source) if isinstance(node, yaml.MappingNode) else []
        entries = tuple((name.value, _at(file, name)) for name, _ in pairs)
        try:
            source.settings.append(Setting(key, _value(node, hint), where, entries))
        except (yaml.YAMLError, ValueError) as error:  # ValueError: no date, or a number of more digits than Python reads
            cause = _cause(error) if isinstance(error, yaml.YAMLError) else str(error)
            source.problems.append(f"{where}: {key} must be {type_text(hint)}; its value cannot be read: {clipped(cause)}")
    elif isinstance(node, yaml.MappingNode):
        _walk(node, f"{key}.", file, source)
    elif node.tag != NULL:
        example = next(name for name in fields() if name.startswith(f"{key}."))
        source.problems.append(f"{where}: {key} is a section, found {_describe(node)}; give its fields, e.g. {example}")


def _pairs(node: yaml.MappingNode, file: Path | None, source: Source) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """Return keys and values. A repeated key is a problem, because YAML would silently use the last one."""
    seen: set[str] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            source.problems.append(f"{_at(file, key_node)}: expected the name of a field, found {_describe(key_node)}")
            return []
        if key_node.value in seen:
            source.problems.append(f"{_at(file, key_node)}: the key {key_node.value} appears twice in one section; remove one")
        seen.add(key_node.value)
    yaml.SafeLoader("").flatten_mapping(node)  # resolves `<<`
    return node.value


def _at(file: Path | None, node: yaml.Node) -> str:
    """Return the place of a node for messages."""
    return f"{file}, line {node.start_mark.line + 1}" if file else COMMAND_LINE


def _value(node: yaml.Node, hint: Any) -> Any:
    """Return the value of a node. A text field takes scalars literally, such as `no` and `007`. Raises yaml.YAMLError and ValueError."""
    if isinstance(node, yaml.ScalarNode) and node.tag != NULL and without_none(hint) is str:
        return node.value
    if isinstance(node, yaml.SequenceNode) and (get_origin(hint) is list or takes_texts(hint)):
        return [_value(item, str if takes_texts(hint) else get_args(hint)[0]) for item in node.value]
    check_numbers(node)
    return yaml.SafeLoader("").construct_document(node)


def _apply(tree: DictConfig, setting: Setting) -> list[str]:
    """Set one field; return the problems with its value."""
    hint, value = type_of(setting.key), setting.value
    if hint == dict[str, float] and value == {}:
        return [f"{setting.where}: {setting.key} is empty; name at least one part with its weight, e.g. {{accuracy: 1.0}}"]
    try:
        if without_none(hint) is bool and not isinstance(value, bool | NoneType):
            raise TypeError  # OmegaConf would accept 2 as true
        if takes_texts(hint) and not (value is None or (isinstance(value, str | list) and all(isinstance(text, str) for text in value))):
            raise TypeError
        if not _is_shallow(without_none(hint), value):
            raise TypeError
        OmegaConf.update(tree, setting.key, _escaped(value), merge=True)
    except (OmegaConfBaseException, ValueError, TypeError, OverflowError):
        shown = "null" if value is None else brief(value, 200)
        return [f"{setting.where}: {setting.key} must be {type_text(hint)}, got {shown}"]
    return []


def _is_shallow(hint: Any, value: Any) -> bool:
    """Return whether the items of a list or mapping are scalars, and numbers have the digits 0 to 9; OmegaConf checks neither."""
    if value is None:
        return True
    items = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
    of_scalars = get_origin(hint) is list or hint == dict[str, float]
    if of_scalars and any(isinstance(item, list | dict | bytes | NoneType) for item in items):
        return False
    numeric = hint in (int, float, list[int], list[float], dict[str, float])
    return not (numeric and any(foreign_digits(item) for item in items))


def _escaped(value: Any) -> Any:
    """Return the value with `${` escaped, so that OmegaConf reads it as text."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return value


def _describe(node: yaml.Node) -> str:
    """Return a node in words for messages: a scalar's text, or its kind."""
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _place(path: Path, error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f"{path}, line {mark.line + 1}" if mark else str(path)


def _cause(error: yaml.YAMLError) -> str:
    return str(error.problem if isinstance(error, yaml.MarkedYAMLError) else error)
