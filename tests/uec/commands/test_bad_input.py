"""Bad input ends with exit status 2 and one clear message, before any actor starts."""

import json
from pathlib import Path

import pytest
import ray

from uec.commands.cli import main

CONFIG = "configs/llm.yaml"


@pytest.fixture
def refused(project: Path, tmp_path: Path, monkeypatch, capsys):
    """Return a function that runs `uec train`, checks that nothing was started, and returns the message."""
    monkeypatch.chdir(project)
    monkeypatch.setattr("actors.programs.preflight.connect", lambda *_: pytest.fail("a cluster was asked for"))

    def run(*overrides: str, config: str = CONFIG) -> str:
        status = main(["train", config, f"run.dir={tmp_path / 'runs'}", *overrides])
        message = capsys.readouterr().err
        assert status == 2, message
        assert message.startswith("uec: ") and "Traceback" not in message
        assert not ray.is_initialized()
        assert not list(tmp_path.glob("runs/*")), "a run folder was made"
        return message

    return run


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("rollout.temprature=1", ["rollout.temprature", "rollout.temperature", "command line"]),
        ("lr=1e-4", ["learner.lr"]),
        ("rollout.n=many", ["rollout.n", "many", "whole number"]),
        ("rollout.n=1", ["rollout.n=1", "at least 2"]),
        ("exploration.temperature=0.9", ["exploration.temperature=0.9", "rollout.temperature=1"]),
        ("learner.ranks=3", ["learner.ranks=3", "train.prompts_per_step=32", "rollout.n=8"]),
        ("model.path=no/such/folder", ["no/such/folder", "Hugging Face"]),
        ("model.path=nobody/nothing", ["nobody/nothing", "hub"]),
        ("data.chat=true", ["chat template", "data.chat=false"]),
        ("data.train=missing.jsonl", ["missing.jsonl", "data.train"]),
        ("data.prompt_key=question", ["question", "prompt"]),
        ("data.max_prompt_tokens=2", ["data.max_prompt_tokens=2", "all"]),
        ("rollout.max_tokens=5000", ["rollout.max_tokens=5000", "context"]),
        ("reward.fn=missing.py:score", ["missing.py", "reward.fn"]),
        ("reward.fn=uec/tasks/countdown/reward.py:nothing", ["nothing", "score"]),
        ("algorithm=gpro", ["gpro", "grpo"]),
        ("run.resume=auto", ["run.resume", "run.name"]),
        ("run.resume=nowhere", ["nowhere"]),
        ("tracking=[consol]", ["consol", "console"]),
    ],
)
def test_a_bad_setting_is_refused_by_name(refused, override: str, fragments: list[str]) -> None:
    message = refused(override)
    for fragment in fragments:
        assert fragment in message, message


def test_a_config_file_that_is_missing_or_malformed_is_named_with_its_line(refused, tmp_path: Path) -> None:
    assert "no_such.yaml" in refused(config="no_such.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("model:\n  path: x\n rollout: [\n")
    assert "broken.yaml" in (message := refused(config=str(broken))) and "line 3" in message


def test_a_malformed_data_line_is_named_by_its_number(refused, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"prompt": "1 2 3 : 6 =", "answer": "6", "numbers": [1, 2, 3]}) + "\n{oops\n")
    message = refused(f"data.train={data}")
    assert "data.jsonl" in message and "line 2" in message


def test_an_empty_data_file_is_refused(refused, tmp_path: Path) -> None:
    data = tmp_path / "empty.jsonl"
    data.touch()
    assert "empty" in refused(f"data.train={data}")


def test_a_folder_that_cannot_be_written_is_refused(refused) -> None:
    assert "run.dir" in refused("run.dir=/proc/nowhere")


def test_an_unknown_folder_is_not_touched_even_with_overwrite(project: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("actors.programs.preflight.connect", lambda *_: pytest.fail("a cluster was asked for"))
    mine = tmp_path / "runs/taken/notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep me")
    for overwrite in ("false", "true"):
        status = main(["train", CONFIG, f"run.dir={tmp_path / 'runs'}", "run.name=taken", f"run.overwrite={overwrite}"])
        assert status == 2
        assert "taken" in capsys.readouterr().err
        assert mine.read_text() == "keep me"


def test_a_link_that_leads_to_itself_is_refused(refused, tmp_path: Path) -> None:
    for name in ("loop", "loop.py"):
        (tmp_path / name).symlink_to(tmp_path / name)
    assert "run.dir" in refused(f"run.dir={tmp_path / 'loop'}")
    message = refused(f"reward.fn={tmp_path / 'loop.py'}:score")
    assert "reward.fn" in message and "leads nowhere" in message


def test_an_empty_checkpoint_leaves_no_run_folder_behind(refused, tmp_path: Path) -> None:
    checkpoint = tmp_path / "old" / "checkpoints" / "step_000001"
    checkpoint.mkdir(parents=True)
    assert "files.json is missing" in refused(f"run.resume={checkpoint}", "run.name=new")
