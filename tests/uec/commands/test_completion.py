"""Tab completion, requested as the shells do."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import argcomplete
import pytest

from uec.config.fields import fields
from uec.config.presets import presets

HEAVY = ("torch", "numpy", "ray", "vllm", "transformers", "omegaconf", "yaml", "rich", "wandb", "datasets", "pyarrow", "PIL", "asyncio")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a working directory with a config, runs and other files."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/first.yaml").touch()
    (tmp_path / "configs/notes.txt").touch()
    for name in ("runs/one", "runs/two"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metrics.jsonl").touch()
    (tmp_path / "runs/bench-1").mkdir()
    return tmp_path


def environment(project: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(project)}


@pytest.fixture
def complete(project: Path, place: Path) -> Callable[..., list[str]]:
    """Return a function that gives the completions of a line with the cursor at its end."""

    def ask(line: str, *options: str) -> list[str]:
        answer = place / ".answer"
        variables = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_SHELL": "fish",  # this shell cuts and quotes nothing
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        command = [sys.executable, *options, "-m", "uec.commands.cli"]
        done = subprocess.run(command, cwd=place, env=environment(project) | variables, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert options or done.stderr == ""
        return answer.read_text().splitlines() + done.stderr.splitlines()

    return ask


def test_commands_and_options_are_completed(complete) -> None:
    assert {"train", "config", "bench"} <= set(complete("uec "))
    assert complete("uec trai") == ["train"]
    assert complete("uec train --p") == ["--print-config"]
    assert complete("uec config --f") == ["--file"]


def test_config_files_are_completed_and_other_files_are_not(complete) -> None:
    assert complete("uec train configs/") == ["configs/first.yaml"]
    assert sorted(complete("uec train ")) == ["configs/", "configs/first.yaml", "runs/"]
    assert complete("uec config --file configs/f") == ["configs/first.yaml"]


def test_fields_are_completed_section_by_section(complete) -> None:
    sections = complete("uec train configs/first.yaml ")
    assert {"rollout.", "algorithm=", "tracking="} <= set(sections) and len(sections) < 30
    assert sorted(complete("uec train x rollout.te")) == ["rollout.temperature=", "rollout.tensor_parallel="]
    of_rollout = sorted(f"{name}=" for name in fields() if name.startswith("rollout."))
    assert sorted(complete("uec train x rollo")) == sorted(complete("uec train x rollout.")) == of_rollout
    assert complete("uec train x data.image.ro") == ["data.image.root="]
    assert complete("uec train x run.seed=1 --print-config rollout.rou") == ["rollout.rounds="]  # after an option
    assert complete("uec train --print-config x rollout.rou") == ["rollout.rounds="]
    assert complete("uec config rollout.te") == ["rollout.tensor_parallel", "rollout.temperature"]


def test_values_are_completed(complete) -> None:
    assert complete("uec train x loss.kl_estimator=") == ["loss.kl_estimator=k3", "loss.kl_estimator=k1", "loss.kl_estimator=k2"]
    assert complete("uec train x loss.aggregation=t") == ["loss.aggregation=token-mean"]
    assert complete("uec train x algorithm=") == [f"algorithm={name}" for name in presets()]
    assert complete("uec train x data.chat=") == ["data.chat=true", "data.chat=false"]
    assert complete("uec train x rollout.kv_cache_mb=") == ["rollout.kv_cache_mb=null"]
    assert complete("uec train x run.resume=runs/o") == ["run.resume=runs/one/"]
    assert complete("uec train x data.train=configs/n") == ["data.train=configs/notes.txt"]
    assert complete("uec train x tracking=[console,t") == ["tracking=[console,tensorboard"]
    assert complete("uec train x tracking=[console,jsonl") == ["tracking=[console,jsonl", "tracking=[console,jsonl]"]
    assert complete("uec train x nothing.here=") == []


def test_run_folders_are_completed_without_a_slash(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uec.commands.completion import runs

    monkeypatch.chdir(place)
    assert sorted(runs("runs/")) == ["runs/bench-1/", "runs/one", "runs/two"]
    assert sorted(runs("")) == ["configs/", "runs/", "runs/bench-1/", "runs/one", "runs/two"]


def test_bash_completes_after_an_equals_sign_and_with_an_absolute_path_to_uec(project: Path, place: Path) -> None:
    """Call the function that `register-python-argcomplete` prints as bash does."""
    (place / "bin").mkdir()
    program = place / "bin/uec"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uec.commands.cli "$@"\n')
    program.chmod(0o755)
    script = argcomplete.shellcode(["uec"]) + f"""
complete -p uec >&2
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:' COMP_TYPE=9
COMP_LINE="{program} train x loss.aggregation=seq-mean-token-m"; COMP_POINT=${{#COMP_LINE}}
_python_argcomplete {program}
printf '%s|' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], cwd=place, env=environment(project), capture_output=True, text=True)
    assert done.stdout == "seq-mean-token-mean |", done.stderr
    assert "-F _python_argcomplete uec" in done.stderr


def test_completion_and_help_import_nothing_heavy(complete, project: Path) -> None:
    imported = complete("uec train x algorithm=d", "-X", "importtime")
    assert "algorithm=dapo" in imported
    names = {line.rpartition("|")[2].strip().partition(".")[0] for line in imported if line.startswith("import time:")}
    assert "argcomplete" in names and not names & set(HEAVY)
    program = (
        "import sys\nfrom uec.commands import cli\ntry: cli.main(['train', '--help'])\n"
        "except SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(project), capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in done.stderr.split()} & {*HEAVY, "argcomplete"}
