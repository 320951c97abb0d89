"""`uec train --print-config`: every value with its origin; the output is a config file."""

import io
import os
import pty
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uec.commands.cli import main
from uec.config.file import Resolved, load_config, resolve_config
from uec.config.print import commented, lines
from uec.config.schema import Config


def printed(*words: str) -> str:
    """Return the output of `uec train ... --print-config`."""
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["train", *words, "--print-config"]) == 0
    return out.getvalue()


def origins(text: str) -> dict[str, str]:
    """Return the comment of each printed line by its `field: value`; the section is omitted."""
    return {line.split("  #")[0].strip(): line.split("  # ")[1] for line in text.splitlines() if "  # " in line}


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a config with a parent and a preset beside it, in the working directory."""
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm/base.yaml").write_text("loss: {kl_coef: 0.1}\n")
    (tmp_path / "algorithm/own.yaml").write_text("# mine\nextends: base.yaml\nloss:\n  clip_low: 0.3\n  clip_high: 0.3\n")
    (tmp_path / "parent.yaml").write_text("algorithm: own\nmodel:\n  path: nowhere\ndata: {train: missing.jsonl}\nrollout: {n: 4}\n")
    (tmp_path / "child.yaml").write_text(
        "extends: parent.yaml\nrollout:\n  n: 6\n\n  top_k: 5\nloss: {clip_high: 0.4}\n"
        "reward:\n  weights:\n    accuracy: 1\n    style: 0.5\n"
    )
    monkeypatch.chdir(tmp_path)
    return "child.yaml"


def test_each_value_has_its_origin_even_without_model_and_data(family: str) -> None:
    found = origins(printed(family, "rollout.top_k=7", "reward.weights.format=0.25"))
    assert found["path: nowhere"] == "parent.yaml, line 3"
    assert found["train: missing.jsonl"] == "parent.yaml, line 4"
    assert found["n: 6"] == "child.yaml, line 3"  # not 4 from the parent
    assert found["top_k: 7"] == "command line"  # not 5 from the child
    assert found["clip_low: 0.3"] == "preset algorithm/own.yaml, line 4"
    assert found["clip_high: 0.4"] == "child.yaml, line 6"  # a file overrides the preset that it names
    assert found["kl_coef: 0.1"] == "preset algorithm/base.yaml, line 1"
    assert found["top_p: 1.0"] == "default"
    assert found["accuracy: 1.0"] == "child.yaml, line 9" and found["style: 0.5"] == "child.yaml, line 10"
    assert found["format: 0.25"] == "command line"


def test_the_algorithm_has_its_origin(family: str, tmp_path: Path) -> None:
    assert origins(printed(family))[f"algorithm: {tmp_path}/algorithm/own.yaml"] == "parent.yaml, line 1"
    assert origins(printed(family, "algorithm=grpo"))["algorithm: grpo"] == "command line"
    (tmp_path / "bare.yaml").write_text("model: {path: m}\ndata: {train: t}\n")
    assert origins(printed("bare.yaml"))["algorithm: uec"] == "default"


def test_a_preset_of_the_command_line_takes_the_origin_from_the_file(family: str) -> None:
    found = origins(printed(family, "algorithm=dapo"))
    assert found["clip_high: 0.28"].startswith("preset ") and found["clip_high: 0.28"].endswith("configs/algorithm/dapo.yaml, line 5")


def test_every_setting_is_printed_once_and_the_comments_are_aligned(family: str) -> None:
    body = printed(family, "algorithm=grpo").splitlines()[1:]
    commented_lines = [line for line in body if "  # " in line]
    assert len({line.index("# ") for line in commented_lines}) == 1
    assert len(commented_lines) == sum(line.origin is not None for line in lines(resolve_config(family, [])))
    assert [line for line in body if "  # " not in line] == [line for line in body if line.endswith(":")]  # names of sections


def test_a_long_value_does_not_move_the_other_comments(family: str) -> None:
    text = printed(family, "algorithm=grpo", f"data.system={'word ' * 60}")
    columns = [line.index("  # ") for line in text.splitlines() if "  # " in line and "word" not in line]
    assert max(columns) < 60 and len(max(text.splitlines(), key=len)) > 300  # the line is not broken


def test_the_output_loads_as_the_same_config_from_any_folder(project: Path, family: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for config in (family, *map(str, sorted([*project.glob("configs/*.yaml"), *project.glob("configs/paper/*.yaml")]))):
        (tmp_path / "other/printed.yaml").write_text(printed(config, "train.steps=3"))
        assert load_config(tmp_path / "other/printed.yaml", []) == load_config(config, ["train.steps=3"])


@settings(max_examples=30)
@given(st.text(), st.lists(st.text(), max_size=3), st.dictionaries(st.text("ab: #-", min_size=1), st.floats(0, 9)), st.text())
def test_any_text_is_printed_in_one_line_and_loads_again(
    tmp_path_factory: pytest.TempPathFactory, text: str, stop: list[str], weights: dict[str, float], file: str
) -> None:
    cfg = Config()
    cfg.model.path, cfg.data.train = "m", "t"
    cfg.data.template, cfg.rollout.stop = text, stop
    cfg.reward.weights |= weights
    all_lines = list(lines(Resolved(cfg, {"data.template": f"{file}, line 1"})))
    path = tmp_path_factory.mktemp("printed") / "config.yaml"
    path.write_text("".join(f"{value}{comment}\n" for value, comment in commented(all_lines)), encoding="utf-8")
    assert load_config(path, []) == cfg


def test_options_may_come_before_between_and_after_the_overrides(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for words in (
        ["--print-config", family, "rollout.n=9", "train.steps=2"],
        [family, "--print-config", "rollout.n=9", "train.steps=2"],
        [family, "rollout.n=9", "--print-config", "train.steps=2"],
        [family, "rollout.n=9", "train.steps=2", "--print-config"],
    ):
        assert main(["train", *words]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0].count("# command line") == 2 and set(outputs) == {outputs[0]}


def test_a_refused_config_is_printed_with_its_problem(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", family, "rollout.n=1", "--print-config"]) == 2
    out, err = capsys.readouterr()
    assert "n: 1 " in out and "rollout.n=1 must be at least 2" in err


def test_an_engine_that_does_not_exist_is_refused_before_anything_starts(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["train", family, "rollout.backend=magic", "--print-config"], ["doctor", family, "rollout.backend=magic", "--quick"]):
        assert main(command) == 2
        assert "rollout.backend: 'magic' is none of auto, in_actor, async" in capsys.readouterr().err


def test_only_a_terminal_gets_colours_and_a_pipe_may_close_early(family: str, project: Path) -> None:
    command = [sys.executable, "-m", "uec.commands.cli", "train", family, "--print-config"]
    env = {**os.environ, "PYTHONPATH": str(project), "TERM": "xterm-256color", "FORCE_COLOR": "1"}
    env.pop("NO_COLOR", None)
    script = '"$@" | head -n 2; echo ${PIPESTATUS[0]}'
    piped = subprocess.run(["bash", "-c", script, "-", *command], env=env, capture_output=True, text=True)
    assert "\x1b" not in piped.stdout and piped.stderr == ""
    assert piped.stdout.splitlines()[1].startswith("algorithm: ") and piped.stdout.splitlines()[2] == "0"
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=env, stdout=theirs) as running:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # on Linux: the other end is closed
                break
            seen += part
        assert running.wait() == 0
    os.close(ours)
    assert b"\x1b[" in seen and b"child.yaml, line 3" in seen
