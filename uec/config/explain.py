"""What `uec config` prints: of a field, of a section, of all sections."""

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from uec.config.docs import Field, Section, default_in_words, find, schema
from uec.config.fields import did_you_mean
from uec.config.file import Resolved
from uec.config.presets import presets
from uec.config.print import DEFAULT, lines, value_of
from uec.errors import BadInput


def explain(name: str, resolved: Resolved | None) -> list[RenderableType]:
    """The field or the section of that name ("": all sections), with its values in a config if there is one."""
    key = name.rstrip(".")
    found = find(key) if key else schema()
    if found is None:
        raise BadInput(f"there is no setting {key}{did_you_mean(key)}")
    if not key and resolved:
        return _that_are_given(resolved)
    return _of_section(found, resolved) if isinstance(found, Section) else _of_field(found, key, resolved)


def _of_section(section: Section, resolved: Resolved | None) -> list[RenderableType]:
    """Each field with its default and its meaning, or with its value in the config and where that comes from."""
    table = Table.grid(padding=(0, 2))
    for field in section.fields:
        told = _value(resolved, field.key) if resolved else [Text(default_in_words(field)), Text(field.text)]
        table.add_row(Text(field.key, "bold"), *told)
    for inside in section.sections:
        table.add_row(Text(inside.key, "bold"), "", Text(inside.text))
    how = f"uec config {section.key}.FIELD explains a field" if section.key else "uec config SECTION lists its fields"
    head = [Text.assemble((section.key, "bold"), f": {section.text}\n")] if section.key else []
    return [*head, table, Text(f"\nvalues are {'those of the file' if resolved else 'the defaults'}; {how}", "dim")]


def _that_are_given(resolved: Resolved) -> list[RenderableType]:
    """All settings of a config that some file names, whatever their value."""
    table = Table.grid(padding=(0, 2))
    given = [line for line in lines(resolved) if line.origin not in (None, DEFAULT)]
    for line in given:
        table.add_row(Text(line.key, "bold"), *_value(resolved, line.key))
    return [table, Text("\nall others have their defaults; uec config SECTION.FIELD explains a field", "dim")]


def _of_field(field: Field, key: str, resolved: Resolved | None) -> list[RenderableType]:
    table = Table.grid(padding=(0, 2))
    table.add_row("type", Text(field.type))
    if field.range:
        table.add_row("range", field.range)
    if words := presets() if field.key == "algorithm" else field.words:
        meanings = Table.grid(padding=(0, 2))
        for word, text in words.items():
            meanings.add_row(Text(word, "bold"), Text(text))
        table.add_row("choices", meanings)
    table.add_row("default", Text(default_in_words(field)))
    section = find(field.key.rpartition(".")[0])
    if section:
        table.add_row("section", Text(f"{section.key}: {section.text}"))
    if resolved:
        value, origin = _value(resolved, key)
        table.add_row("value", Text.assemble(value, ("  # ", "dim"), origin))
    return [Text(field.key, "bold"), Text(f"{field.text}\n"), table]


def _value(resolved: Resolved, key: str) -> tuple[Text, Text]:
    value, origin = value_of(resolved, key)
    return Text(value, "" if origin == DEFAULT else "bold"), Text(origin, "dim" if origin == DEFAULT else "cyan")
