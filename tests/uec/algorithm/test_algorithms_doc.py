"""What docs/algorithms.md says is so."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.support.token_batches import by_ratio
from uec.algorithm.advantage import load_estimator
from uec.algorithm.losses.objective import StepSize, objective
from uec.algorithm.losses.policy import load_policy_loss
from uec.config.fields import fields, is_section
from uec.config.schema import LossConfig
from uec.config.validate import validate


@pytest.fixture
def doc(project: Path) -> str:
    return (project / "docs/algorithms.md").read_text()


def preset(path: Path) -> dict[str, object]:
    """The fields that a file of configs/algorithm itself sets."""
    sections = {name: section for name, section in yaml.safe_load(path.read_text()).items() if name != "extends"}
    return {f"{section}.{field}": value for section, values in sections.items() for field, value in values.items()}


def typed(value: object) -> object:
    """YAML reads 2e-4 as text."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value) else value


def test_every_algorithm_has_a_row_with_exactly_the_fields_of_its_file(doc: str, project: Path) -> None:
    rows = {row.split("`")[1]: row for row in doc.splitlines() if re.match(r"\| `\w+` \| ", row)}
    files = sorted(project.glob("configs/algorithm/*.yaml"))
    assert sorted(rows) == [path.stem for path in files]
    for path in files:
        assert rows[path.stem].count("|") == 6, path.stem
        said = dict(re.findall(r"`([a-z_]+\.[a-z_]+)=([^`]+)`", rows[path.stem].split("|")[4]))
        assert {key: yaml.safe_load(value) for key, value in said.items()} == {k: typed(v) for k, v in preset(path).items()}, path.stem


def test_every_field_that_it_names_exists(doc: str) -> None:
    sections = "|".join(name for name in fields() if is_section(name))
    text = re.sub(r"```.*?```", "", doc, flags=re.DOTALL)
    named = set(re.findall(rf"(?<![/.\w])(?:{sections})\.[a-z_]+\b", text))  # `batch.old_N` of the losses is none
    assert len(named) > 50 and named <= set(fields())


def test_every_file_that_it_names_exists(doc: str, project: Path) -> None:
    for path in re.findall(r"\b(?:configs|uec|tests|docs)/[\w/]+\.(?:py|yaml|md|json|sh)\b", doc):
        assert path == "configs/algorithm/NAME.yaml" or (project / path).exists(), path


def test_its_parts_name_every_field_of_advantage_loss_exploration_retention_and_replay(doc: str) -> None:
    parts = doc[doc.index("## The parts") : doc.index("## Your own")]
    for section in ("advantage", "loss", "exploration", "retention", "replay", "difficulty", "dynamic_sampling", "batch"):
        for name in fields():
            if name.startswith(f"{section}.") and name != "exploration.stream":  # when, not what
                assert f"`{name}`" in parts, name


@pytest.fixture
def examples(doc: str, tmp_path: Path, monkeypatch) -> Path:
    """A folder with the files of the code blocks, to be worked in."""
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", doc, re.DOTALL):
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_of_an_advantage_works(doc: str, examples: Path, make_config) -> None:
    override = "advantage.estimator=my_advantage.py:mild"
    assert override in doc
    validate(make_config("algorithm=grpo", override))
    # R = 1, 0, 0, 0: mean 1/4: 3/4, and half of -1/4
    found = load_estimator("my_advantage.py:mild")([np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.5, 0.5])])
    assert [a.tolist() for a in found] == [[0.75, -0.125, -0.125, -0.125], [0.0, 0.0]]


def test_the_example_of_a_policy_loss_works(doc: str, examples: Path, make_config) -> None:
    override = "loss.policy=my_loss.py:fading"
    assert override in doc
    validate(make_config("algorithm=grpo", override))
    # At rho = 1 it weighs 1; at rho = e, with a range of .2, e^(1 - 1/.08) = e^-11.5
    batch = by_ratio([1.0, float(np.e)], [1.0, 1.0])
    loss, metrics = objective(batch, load_policy_loss("my_loss.py:fading"), LossConfig(), StepSize(2, 2, 4))
    (slope_N,) = torch.autograd.grad(loss, batch.logprobs_N)
    assert slope_N.tolist() == pytest.approx([-0.5, -0.5 * np.exp(-11.5)])
    assert metrics["clip_frac"] == 1 and metrics["ratio_mean"].item() == pytest.approx(1 + np.e)


def test_the_commands_in_it_name_algorithms_that_there_are(doc: str, project: Path, make_config) -> None:
    commands = re.findall(r"^ {4}uec train configs/llm.yaml (.*?)(?: {2,}#.*)?$", doc, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        overrides = command.split()
        if not any(".py:" in word or "my/" in word for word in overrides):
            validate(make_config(*overrides))
