"""`uec config` and docs/config.md agree with `uec/config/schema.py`."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from uec.algorithm.advantage import BUILTIN as ADVANTAGES
from uec.algorithm.losses.policy import BUILTIN as LOSSES
from uec.commands.cli import main
from uec.config.docs import Field, Section, document, find, schema
from uec.config.fields import fields, is_section
from uec.config.file import load_config
from uec.config.schema import Config
from uec.rewards.reward_function import BUILTIN as REWARDS


@pytest.fixture
def uec_config(capsys: pytest.CaptureFixture[str]):
    """Return a function that runs `uec config ...` and returns its status and output."""

    def run(*words: str) -> tuple[int, str]:
        status = main(["config", *words])
        out, err = capsys.readouterr()
        return status, out + err

    return run


def rows(text: str) -> dict[str, str]:
    """Return the lines `name  text` of an output by their names."""
    return dict(re.findall(r"^(\S+) {2,}(.+)$", text, re.MULTILINE))


# --- the schema


def test_every_field_and_section_is_known_once_with_its_default() -> None:
    known = [field.key for section in schema().walk() for field in section.fields]
    assert sorted(known) == sorted(name for name in fields() if not is_section(name))
    assert sorted(section.key for section in schema().walk() if section.key) == sorted(name for name in fields() if is_section(name))
    defaults = dataclasses.asdict(Config())
    for key in known:
        value = defaults
        for name in key.split("."):
            value = value[name]
        found = find(key)
        assert isinstance(found, Field) and found.default == value and len(found.text) > 8, key
    for section in schema().walk():
        assert section.text.endswith("."), section.key


def test_type_and_range_are_given_in_words() -> None:
    texts = {key: find(key).takes for key in ("rollout.n", "replay.capacity", "rollout.top_p", "learner.betas", "run.name", "data.chat")}
    assert texts == {
        "rollout.n": "a whole number, at least 2",
        "replay.capacity": "a whole number, at least 1, or null",
        "rollout.top_p": "a number, above 0 and at most 1",
        "learner.betas": "a list of numbers, e.g. [0.9, 0.95], each at least 0 and below 1",
        "run.name": "text or null",
        "data.chat": "true or false",
    }


def test_the_choices_of_a_field_are_the_names_that_the_code_knows() -> None:
    assert list(find("reward.fn").choices) == list(REWARDS)
    assert list(find("advantage.estimator").choices) == list(ADVANTAGES)
    assert list(find("loss.policy").choices) == list(LOSSES)


def test_every_setting_that_a_docstring_names_exists() -> None:
    sections = "|".join(section.key for section in schema().walk() if section.key)
    for section in schema().walk():
        for field in section.fields:
            for text in (field.text, field.takes, *field.choices.values()):
                for name in re.findall(rf"\b(?:{sections})\.[a-z_]+\b", text):
                    assert find(name) or name in ("metrics.jsonl",), (field.key, name)


# --- uec config


def test_a_field_is_explained_with_type_range_default_and_section(uec_config) -> None:
    status, text = uec_config("rollout.top_p")
    assert status == 0 and "Nucleus sampling" in text
    found = rows(text)
    assert (found["type"], found["range"], found["default"]) == ("a number", "above 0 and at most 1", "1.0")
    assert found["section"].startswith("rollout: ") and "value" not in found


def test_the_choices_of_a_field_are_explained_one_by_one(uec_config) -> None:
    _, text = uec_config("exploration.keep")
    assert re.search(r"^choices +positive +those with A > 0 \(paper\)$", text, re.MULTILINE)
    assert re.search(r"^ +informative +those with \|A\| > `exploration.threshold`", text, re.MULTILINE)
    _, text = uec_config("algorithm")  # its choices are files
    assert re.search(r"dr_grpo +Dr. GRPO \(arXiv 2503.20783\)", text) and re.search(r"\buec_released\b", text)


def test_a_section_lists_its_fields_and_no_argument_lists_the_sections(uec_config) -> None:
    _, text = uec_config("replay")
    assert [name for name in rows(text) if "." in name] == [name for name in fields() if name.startswith("replay.")]
    _, text = uec_config()
    assert list(rows(text)) == ["algorithm", "tracking", *(name for name in fields() if is_section(name) and "." not in name)]
    assert uec_config("replay.") == uec_config("replay")  # completion leaves a dot
    assert "data.image.root" in uec_config("data.image")[1] and "data.image " in uec_config("data")[1]


def test_a_file_adds_values_and_their_origins(uec_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("a.yaml")
    file.write_text("model: {path: m}\ndata: {train: t}\nrollout:\n  n: 5\nreward: {weights: {style: 2}}\n")
    assert rows(uec_config("rollout.n", "--file", str(file))[1])["value"] == f"5  # {file}, line 4"
    assert rows(uec_config("--file", str(file), "rollout.top_k")[1])["value"] == "-1  # default"
    assert rows(uec_config("reward.weights.style", "--file", str(file))[1])["value"] == f"2.0  # {file}, line 5"
    assert re.search(r"^rollout\.n +5 +\S*a\.yaml, line 4$", uec_config("rollout", "--file", str(file))[1], re.MULTILINE)
    given = rows(uec_config("--file", str(file))[1])
    assert {"model.path", "rollout.n", "exploration.keep"} <= set(given) and "rollout.top_k" not in given


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("rolout.n", "rollout.n?"),
        ("rollout.temprature", "rollout.temperature?"),
        ("temprature", "rollout.temperature or exploration.temperature"),
        ("lr", "learner.lr?"),
        ("explorations", "exploration?"),
        ("algoritm", "algorithm?"),
    ],
)
def test_an_unknown_name_suggests_the_nearest_one(uec_config, name: str, nearest: str) -> None:
    status, text = uec_config(name)
    assert status == 2 and f"there is no setting {name}; did you mean {nearest}" in text


def test_an_unknown_name_without_similar_ones_gets_the_sections(uec_config, tmp_path: Path) -> None:
    status, text = uec_config("xyzzy")
    assert status == 2 and "there is algorithm, run, model" in text
    status, text = uec_config("rollout.n", "--file", str(tmp_path / "none.yaml"))
    assert status == 2 and "does not exist" in text


# --- docs/config.md


def test_the_document_is_current(project: Path) -> None:
    text = (project / "docs/config.md").read_text(encoding="utf-8")
    assert text == "\n".join(document()) + "\n", "run `python -m uec.config.docs > docs/config.md`"


def test_the_document_has_a_row_of_four_cells_for_every_field(project: Path) -> None:
    text = (project / "docs/config.md").read_text(encoding="utf-8")
    cells = {row[0]: row[1:] for row in (re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines()) if len(row) == 4}
    for name in fields():
        if not is_section(name):
            assert f" `{name}` " in cells, name
    assert cells[" `rollout.n` "] == [" `8` ", " a whole number, at least 2 ", " G: responses per prompt. "]
    assert "`informative`: those with \\|A\\| > `exploration.threshold`" in cells[" `exploration.keep` "][1]
    for anchor in re.findall(r"\]\(#([\w-]+)\)", text):
        assert any(line.replace(".", "") == f"## {anchor}" for line in text.splitlines()), anchor
    assert isinstance(find("rollout"), Section)


def test_its_example_and_its_commands_work(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    text = (project / "docs/config.md").read_text(encoding="utf-8")
    example, commands = re.findall(r"```(?:yaml)?\n(.*?)```", text, re.DOTALL)
    (tmp_path / "configs").symlink_to(project / "configs")
    (tmp_path / "my.yaml").write_text(example)
    monkeypatch.chdir(tmp_path)
    assert (load_config("my.yaml", []).rollout.n, load_config("my.yaml", []).learner.lr) == (16, 1e-6)
    words = [shlex.split(line, comments=True)[1:] for line in commands.splitlines()]
    assert len(words) == 4
    for command in words:
        assert main([word for word in command if word != "--dry-run"] + ["--print-config"] * (command[0] == "train")) == 0
        assert "n: 4" in capsys.readouterr().out or command[0] == "config"
