"""The output of `uec config`: for a field, for a section, or for all sections."""

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from uec.config.docs import Field, Section, default_text, find, schema
from uec.config.fields import did_you_mean
from uec.config.file import Resolved
from uec.config.presets import presets
from uec.config.print import DEFAULT, lines, value_of
from uec.errors import BadInput


def explain(name: str, resolved: Resolved | None) -> list[RenderableType]:
    """Return the explanation of a field or a section ("": all sections), with its values in the config if there is one.

    Raises BadInput if there is no such setting.
    """
    key = name.rstrip(".")
    found = find(key) if key else schema()
    if found is None:
        raise BadInput(f"there is no setting {key}{did_you_mean(key)}")
    if not key and resolved:
        return _explicit_settings(resolved)
    return _of_section(found, resolved) if isinstance(found, Section) else _of_field(found, key, resolved)


def _of_section(section: Section, resolved: Resolved | None) -> list[RenderableType]:
    """Return each field with its default and meaning, or with its value in the config and the value's origin."""
    table = Table.grid(padding=(0, 2))
    for field in section.fields:
        cells = _value(resolved, field.key) if resolved else [Text(default_text(field)), Text(field.text)]
        table.add_row(Text(field.key, "bold"), *cells)
    for inside in section.sections:
        table.add_row(Text(inside.key, "bold"), "", Text(inside.text))
    hint = f"uec config {section.key}.FIELD explains a field" if section.key else "uec config SECTION lists its fields"
    head = [Text.assemble((section.key, "bold"), f": {section.text}\n")] if section.key else []
    return [*head, table, Text(f"\nthe values are {'from the file' if resolved else 'the defaults'}; {hint}", "dim")]


def _explicit_settings(resolved: Resolved) -> list[RenderableType]:
    """Return the settings that a file or the command line sets, even if the value equals the default."""
    table = Table.grid(padding=(0, 2))
    for line in lines(resolved):
        if line.origin in (None, DEFAULT):
            continue
        table.add_row(Text(line.key, "bold"), *_value(resolved, line.key))
    return [table, Text("\nall other fields have their defaults; uec config SECTION.FIELD explains a field", "dim")]


def _of_field(field: Field, key: str, resolved: Resolved | None) -> list[RenderableType]:
    """Return type, range, choices, default and section of a field, and its value in the config."""
    table = Table.grid(padding=(0, 2))
    table.add_row("type", Text(field.type))
    if field.range:
        table.add_row("range", field.range)
    if choices := presets() if field.key == "algorithm" else field.choices:
        meanings = Table.grid(padding=(0, 2))
        for name, meaning in choices.items():
            meanings.add_row(Text(name, "bold"), Text(meaning))
        table.add_row("choices", meanings)
    table.add_row("default", Text(default_text(field)))
    section = find(field.key.rpartition(".")[0])
    if section:
        table.add_row("section", Text(f"{section.key}: {section.text}"))
    if resolved:
        value, origin = _value(resolved, key)
        table.add_row("value", Text.assemble(value, ("  # ", "dim"), origin))
    return [Text(field.key, "bold"), Text(f"{field.text}\n"), table]


def _value(resolved: Resolved, key: str) -> tuple[Text, Text]:
    """Return a field's value and its origin; values that are not the default stand out."""
    value, origin = value_of(resolved, key)
    return Text(value, "" if origin == DEFAULT else "bold"), Text(origin, "dim" if origin == DEFAULT else "cyan")
