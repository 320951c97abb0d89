"""The statements of docs/algorithms.md are true. tests/docs/test_contributing.py has the examples of an advantage and a loss."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from uec.config.fields import fields, is_section
from uec.config.validate import validate


@pytest.fixture
def doc(project: Path) -> str:
    return (project / "docs/algorithms.md").read_text()


def preset(path: Path) -> dict[str, object]:
    """Return the fields that a file of configs/algorithm itself sets."""
    sections = {name: section for name, section in yaml.safe_load(path.read_text()).items() if name != "extends"}
    return {f"{section}.{field}": value for section, values in sections.items() for field, value in values.items()}


def typed(value: object) -> object:
    """Return the value as a number where YAML reads 2e-4 as text."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value) else value


def test_every_algorithm_has_a_row_and_exactly_the_fields_of_its_file(doc: str, project: Path) -> None:
    files = sorted(project.glob("configs/algorithm/*.yaml"))
    table = doc[doc.index("## The algorithms") : doc.index("The files set these fields")]
    assert sorted(re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", table, re.MULTILINE)) == [path.stem for path in files]
    [block] = re.findall(r"The files set these fields:\n\n```\n(.*?)```", doc, re.DOTALL)
    listed = {name: words for name, words in re.findall(r"^(\w+) +(\S+=.*(?:\n +.*)*)", block, re.MULTILINE)}
    assert sorted(listed) == [path.stem for path in files]
    for path in files:
        said = dict(word.split("=") for word in listed[path.stem].split())
        assert {key: yaml.safe_load(value) for key, value in said.items()} == {k: typed(v) for k, v in preset(path).items()}, path.stem


def test_every_algorithm_has_a_line_on_its_agreement_with_the_oracle(doc: str, project: Path) -> None:
    section = doc[doc.index("## Agreement") : doc.index("## Where paper")]
    rows = re.findall(r"^\| (`\w+\*?`(?:, `\w+\*?`)*) \| .+ \| .*\|$", section, re.MULTILINE)
    patterns = [name for row in rows for name in re.findall(r"`(.+?)`", row)]
    for path in project.glob("configs/algorithm/*.yaml"):
        assert sum(fnmatch(path.stem, pattern) for pattern in patterns) == 1, path.stem


def test_every_field_that_it_names_exists(doc: str) -> None:
    sections = "|".join(name for name in fields() if is_section(name))
    text = re.sub(r"```.*?```", "", doc, flags=re.DOTALL)
    named = set(re.findall(rf"(?<![/.\w])(?:{sections})\.[a-z_]+\b", text))  # `batch.old_N` of the losses is none
    assert len(named) > 50 and named <= set(fields())


def test_every_file_that_it_names_exists(doc: str, project: Path) -> None:
    for path in re.findall(r"\b(?:configs|uec|tests|docs)/[\w/]+\.(?:py|yaml|md|json|sh)\b", doc):
        assert path == "configs/algorithm/NAME.yaml" or (project / path).exists(), path


def test_its_parts_name_every_field_of_advantage_loss_exploration_retention_and_replay(doc: str) -> None:
    parts = doc[doc.index("## The parts") : doc.index("## Agreement")]
    for section in ("advantage", "loss", "exploration", "retention", "replay", "difficulty", "dynamic_sampling", "batch"):
        for name in fields():
            if name.startswith(f"{section}.") and name != "exploration.stream":  # when, not what
                assert f"`{name}`" in parts, name


def test_the_commands_in_it_name_algorithms_that_there_are(doc: str, project: Path, make_config) -> None:
    commands = re.findall(r"^ {4}uec train configs/llm.yaml (.*?)(?: {2,}#.*)?$", doc, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        overrides = command.split()
        if not any(".py:" in word or "my/" in word for word in overrides):
            validate(make_config(*overrides))
