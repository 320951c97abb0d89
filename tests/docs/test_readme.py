"""What the README says is so."""

import re
from pathlib import Path

import pytest

from uec.config.file import load_config
from uec.config.validate import validate
from uec.tracking.metrics import METRICS


@pytest.fixture
def readme(project: Path) -> str:
    return (project / "README.md").read_text()


def test_the_two_commands_stand_before_line_40(readme):
    lines = readme.splitlines()[:40]
    assert any(line.startswith("make train-llm") for line in lines) and any(line.startswith("make test") for line in lines)


def test_the_glossary_explains_exactly_the_metrics_that_there_are(readme):
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| (.+) \|$", readme[readme.index("## Metric glossary") :], re.MULTILINE)
    assert [(key, unit.strip(), text) for key, unit, text in rows] == [(m.key, m.unit, m.text) for m in METRICS]


def test_the_example_config_and_reward_work(readme, tmp_path, monkeypatch):
    blocks = dict(re.findall(r"```(yaml|python)\n(.*?)```", readme, re.DOTALL))
    (tmp_path / "my.yaml").write_text(blocks["yaml"])
    validate(load_config(tmp_path / "my.yaml", ["rollout.temperature=0.9", "exploration.n=32", "run.name=first"]))
    names: dict[str, object] = {}
    exec(blocks["python"], names)  # the README's own text
    assert names["score"]("so \\boxed{7} or 7", "7") == {"accuracy": 1.0, "format": 1.0}


def test_every_file_and_target_that_it_names_exists(readme, project):
    for target in re.findall(r"(?:^|`)make ([a-z][a-z0-9-]+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", (project / "Makefile").read_text(), re.MULTILINE), target
    for path in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (project / path).exists(), path
    for path in re.findall(r"\b(?:configs|actors|uec|docs)/[\w/]+\.(?:py|yaml|md)\b", readme):
        assert (project / path).exists(), path
