"""From YAML files and dotted overrides to a typed Config, and back to a file.

What counts, lowest first: the defaults of `uec/config/schema.py`; the algorithm preset that the file names; the file, a parent
(`extends:`) before its child; the preset named on the command line; the other overrides in their order.
Texts are literal: `${...}` is not filled in from anywhere, so no secret of the environment can slip into a saved config.
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

from uec.config.fields import did_you_mean, fields, in_words, inner, is_section, type_of
from uec.config.presets import PROJECT as PROJECT
from uec.config.presets import folders, presets
from uec.config.schema import Config
from uec.errors import BadInput

SAVED_HEADER = "# uec-rl: all the settings of this run."
COMMAND_LINE = "command line"
NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value for one field, and who gave it."""

    key: str  # dotted
    value: Any
    where: str
    entries: tuple[tuple[str, str], ...] = ()  # of a mapping: each name and where it stands


@dataclass(frozen=True, slots=True)
class Source:
    """What one file, or the command line, says."""

    settings: list[Setting]
    problems: list[str]
    algorithm: Setting | None = None
    extends: str | None = None
    preset: bool = False  # a file of the algorithm


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings of a run, and where each comes from."""

    config: Config
    origins: dict[str, str]
    """By dotted name, entries of mappings included; what is not in here has the default of `uec/config/schema.py`."""


def load_config(path: str | Path, overrides: list[str]) -> Config:
    """The settings of a run. BadInput names every unknown key, wrong type and missing field with its file and line."""
    return resolve_config(path, overrides).config


def resolve_config(path: str | Path, overrides: list[str]) -> Resolved:
    """As `load_config`, with the origin of each value."""
    files = _chain(Path(path))
    command = _read_overrides(overrides)
    in_file = next((source.algorithm for source in reversed(files) if source.algorithm), None)
    given = in_file or Setting("algorithm", Config.algorithm, str(path))
    algorithm, sources = _preset(given, Path(path))
    sources += files
    if command.algorithm:
        algorithm, chosen = _preset(command.algorithm, Path(path))
        sources += chosen
    sources.append(command)
    problems = [problem for source in sources for problem in source.problems]
    tree, origins = OmegaConf.structured(Config), {}
    for source in sources:
        for setting in source.settings:
            problems.extend(_apply(tree, setting))
            for name, where in [(setting.key, setting.where), *((f"{setting.key}.{entry}", where) for entry, where in setting.entries)]:
                origins[name] = f"preset {where}" if source.preset else where
    tree.algorithm = _literal(algorithm)
    if command.algorithm or in_file:
        origins["algorithm"] = (command.algorithm or given).where
    for key in sorted(OmegaConf.missing_keys(tree)):
        problems.append(f"{path}: {key} is required; set it in the file, or as {key}=... on the command line")
    if problems:
        raise BadInput("\n".join(dict.fromkeys(problems)))
    return Resolved(OmegaConf.to_object(tree), origins)  # type: ignore[arg-type]


def config_text(cfg: Config, path: str | Path) -> str:
    """Every setting as the text of the file `path`, so that `load_config` gives the same again.

    How the run was started (`run.overwrite`, `run.resume`) is no part of it: a second start from this file neither deletes nor resumes.
    """
    lasting = dataclasses.replace(cfg, run=dataclasses.replace(cfg.run, overwrite=False, resume="never"))
    body = yaml.dump(dataclasses.asdict(lasting), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
    hint = f"# Go on from the newest checkpoint: uec train {path} run.resume=auto"
    return f"{SAVED_HEADER}\n{hint}\n{body}"


class Dumper(yaml.SafeDumper):
    """Texts with line ends or control characters are quoted and escaped: PyYAML reads some plain ones back as others."""


def _represent_text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, None if text.isprintable() else '"')


Dumper.add_representer(str, _represent_text)


# --- files


def _chain(path: Path, child: tuple[Path, ...] = ()) -> list[Source]:
    """The file and what it extends, parents first."""
    if path.resolve() in [known.resolve() for known in child]:
        raise BadInput(f"{child[0]}: `extends` goes round in a circle: {' -> '.join(str(p) for p in (*child, path))}")
    source = _read_file(path, child[-1] if child else None)
    if source.extends is None:
        return [source]
    return [*_chain(path.parent / source.extends, (*child, path)), source]


def _read_file(path: Path, child: Path | None) -> Source:
    named = f"{child}: extends {path}, which" if child else f"config file {path}"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{named} does not exist (looked in {Path.cwd() if not path.is_absolute() else path.parent})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{named} cannot be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise BadInput(f"{_place(path, error)}: not valid YAML: {_cause(error)}") from error
    if node is None or node.tag == NULL:
        raise BadInput(f"{named} is empty; expected settings such as `model: {{path: ...}}`")
    if not isinstance(node, yaml.MappingNode):
        raise BadInput(f"{path}, line {node.start_mark.line + 1}: expected `section: {{field: value}}`, found {_named(node)}")
    source = Source([], [])
    _walk(node, "", path, source)
    top = {setting.key: setting for setting in source.settings if setting.key in ("extends", "algorithm")}
    extends = top.get("extends")
    if extends and not (isinstance(extends.value, str) and extends.value):
        raise BadInput(f"{extends.where}: extends must name a config file, got {extends.value!r}")
    rest = [setting for setting in source.settings if setting.key not in top]
    return Source(rest, source.problems, top.get("algorithm"), extends.value if extends else None)


def _preset(algorithm: Setting, config: Path) -> tuple[str, list[Source]]:
    """The algorithm's name (or its file's whole path) and its files: a name is looked up in the `algorithm` folders.

    What lies beside the config alone gets its whole path, too: a saved or printed config lies elsewhere, and would not find the name.
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
    anywhere = None if _is_path(name) else next((place for place in places[1:] if place.is_file()), None)
    found_again = anywhere is not None and anywhere.samefile(path)
    return name if found_again else str(path.resolve()), [dataclasses.replace(source, preset=True) for source in sources]


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith((".yaml", ".yml"))


# --- the command line


def _read_overrides(overrides: list[str]) -> Source:
    source = Source([], [])
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.strip().lstrip("-")
        if not equals or not key:
            source.problems.append(f"{COMMAND_LINE}: {text!r} is no override; expected section.field=value, e.g. rollout.n=8")
            continue
        hint = type_of(key)
        if inner(hint) is str and not re.fullmatch(r"""\s*(".*"|'.*'|null|~|)\s*""", value, re.DOTALL):
            source.settings.append(Setting(key, value, COMMAND_LINE))  # a text with braces or colons is no YAML
            continue
        try:
            node = yaml.compose(value, Loader=yaml.SafeLoader) or yaml.ScalarNode(NULL, "")
            _walk_value(node, key, None, COMMAND_LINE, source)
        except yaml.YAMLError as error:
            source.problems.append(f"{COMMAND_LINE}: {text!r}: the value is not valid YAML: {_cause(error)}")
    named = [setting for setting in source.settings if setting.key == "algorithm"]
    rest = [setting for setting in source.settings if setting.key != "algorithm"]
    return Source(rest, source.problems, named[-1] if named else None)


# --- YAML nodes; `file` is None for the command line


def _walk(node: yaml.MappingNode, prefix: str, file: Path | None, source: Source) -> None:
    """Collect the settings of a section (`prefix` is "" or ends in a dot)."""
    for key_node, value in _pairs(node, file, source):
        key, where = f"{prefix}{key_node.value}", _at(file, key_node)
        if key == "extends":
            source.settings.append(Setting(key, _value(value, str), where))
        else:
            _walk_value(value, key, file, where, source)


def _walk_value(node: yaml.Node, key: str, file: Path | None, where: str, source: Source) -> None:
    hint = type_of(key)
    if hint is None:
        source.problems.append(f"{where}: unknown key {key}{did_you_mean(key)}")
    elif not is_section(key):
        pairs = _pairs(node, file, source) if isinstance(node, yaml.MappingNode) else []
        entries = tuple((name.value, _at(file, name)) for name, _ in pairs)
        try:
            source.settings.append(Setting(key, _value(node, hint), where, entries))
        except yaml.YAMLError as error:
            source.problems.append(f"{where}: {key}: the value is not valid YAML: {_cause(error)}")
    elif isinstance(node, yaml.MappingNode):
        _walk(node, f"{key}.", file, source)
    elif node.tag != NULL:
        example = next(name for name in fields() if name.startswith(f"{key}."))
        source.problems.append(f"{where}: {key} is a section, found {_named(node)}; give its fields, e.g. {example}")


def _pairs(node: yaml.MappingNode, file: Path | None, source: Source) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """Keys and values; a key that stands twice is a problem, for YAML would silently take the last."""
    seen: set[str] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            source.problems.append(f"{_at(file, key_node)}: expected the name of a field, found {_named(key_node)}")
            return []
        if key_node.value in seen:
            source.problems.append(f"{_at(file, key_node)}: the key {key_node.value} stands twice in one section; remove one")
        seen.add(key_node.value)
    yaml.SafeLoader("").flatten_mapping(node)  # what `<<` brings in
    return node.value


def _at(file: Path | None, node: yaml.Node) -> str:
    return f"{file}, line {node.start_mark.line + 1}" if file else COMMAND_LINE


def _value(node: yaml.Node, hint: Any) -> Any:
    """A node as Python. Where text is wanted it is taken as it stands: `no` and `007` stay themselves."""
    if isinstance(node, yaml.ScalarNode) and node.tag != NULL and inner(hint) is str:
        return node.value
    if isinstance(node, yaml.SequenceNode) and get_origin(hint) is list:
        return [_value(item, get_args(hint)[0]) for item in node.value]
    return yaml.SafeLoader("").construct_document(node)


def _apply(tree: DictConfig, setting: Setting) -> list[str]:
    """Set one field; returns what is wrong with the value."""
    hint, value = type_of(setting.key), setting.value
    try:
        if inner(hint) is bool and not isinstance(value, bool | NoneType):
            raise TypeError  # OmegaConf would take 2 for true
        OmegaConf.update(tree, setting.key, _literal(value), merge=True)
    except (OmegaConfBaseException, ValueError, TypeError):
        given = "null" if value is None else repr(value)
        return [f"{setting.where}: {setting.key} must be {in_words(hint)}, got {given}"]
    return []


def _literal(value: Any) -> Any:
    """The value with `${` escaped, so that OmegaConf takes it for text."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)
    if isinstance(value, list):
        return [_literal(item) for item in value]
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    return value


def _named(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _place(path: Path, error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f"{path}, line {mark.line + 1}" if mark else str(path)


def _cause(error: yaml.YAMLError) -> str:
    return str(error.problem if isinstance(error, yaml.MarkedYAMLError) else error)
