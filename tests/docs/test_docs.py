"""What README.md and docs/ tell people to do works: links lead somewhere, commands run or stand in a list of those that no test runs."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.doc_commands import Command, commands, write_files
from tests.support.hardware_table import OF_PAGE, OF_README, table
from uec.commands.cli import main

PROJECT = Path(__file__).resolve().parents[2]
COMMANDS = commands(PROJECT)

NOT_RUN = {  # what a command begins with: why
    "ray ": "needs a cluster: tests/e2e/test_launch_job.py and tests/actors/runtime/test_cluster_nodes.py run these on ports of their own",
    "uec bench": "minutes, on an idle machine: tests/bench/ runs its parts",
    "sbatch ": "needs Slurm: tests/launch/test_launch_slurm.py runs the script with stand-ins",
    "kubectl ": "needs Kubernetes: tests/launch/test_launch_files.py reads launch/kuberay.yaml",
    "docker ": "needs Docker: tests/launch/test_launch_files.py reads launch/Dockerfile.*",
    "make ": "minutes: `make -n` is run, and what it calls is run or dry-run here",
    "uec train configs/llm.yaml algorithm=my/file.yaml": "stands for a file of yours",
}
OF_THEIR_OWN = ("uec report", "uec eval", "uec export", "uec doctor", "uec train runs/")
"""Commands whose options have e2e tests, tests/e2e/test_eval.py and so on; those of docs/first-run.md are run as they stand."""

# Here are neither the hub nor the column names of a user's data: what stands in for them in these configs.
STAND_IN = [
    "model.path=assets/countdown",
    "data.chat=false",
    "data.template={prompt}",
    "data.max_prompt_tokens=16",
    "rollout.max_tokens=19",
]


def reason(command: Command) -> str | None:
    """Why no test runs it."""
    text = " ".join(command.words)
    if command.doc != "first-run.md" and text.startswith(OF_THEIR_OWN):
        return "it has e2e tests of its own"
    return next((why for beginning, why in NOT_RUN.items() if f"{text} ".startswith(beginning)), None)


def of(*words: str) -> list[Command]:
    """The commands that begin with these words and are run."""
    return [command for command in COMMANDS if tuple(command.words[: len(words)]) == words and reason(command) is None]


def named(command: Command) -> str:
    return f"{command.doc}: {' '.join(command.words)}"


@pytest.fixture
def folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What somebody who reads the docs has before them: a checkout, their data, and the files that the docs show."""
    for name in ("configs", "assets"):
        (tmp_path / name).symlink_to(project / name)
    write_files(project, tmp_path)
    rows = [{"question": f"{n} , 4 , 7 ? =", "answer": f"so\n#### {n}"} for n in range(10, 90)]
    for data in (tmp_path, tmp_path / "school"):
        data.mkdir(exist_ok=True)
        for split in ("train", "test"):
            (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_link_leads_somewhere(project: Path) -> None:
    docs = [project / "README.md", *(project / "docs").glob("*.md")]
    links = [(doc, link) for doc in docs for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", doc.read_text()) if "://" not in link]
    assert len(links) > 20
    assert [f"{doc.name}: {link}" for doc, link in links if not (doc.parent / link).exists()] == []


def test_every_test_that_reliability_md_names_exists(project: Path) -> None:
    page = (project / "docs/reliability.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", page)
    assert len(set(named)) >= 40 and len(named) == page.count("::")  # none is written in a way that is not looked at
    trees = {file: ast.parse((project / file).read_text()) for file in {file for file, _ in named}}
    there = {(file, node.name) for file, tree in trees.items() for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert sorted(set(named) - there) == []


def test_every_command_is_run_or_listed_with_the_reason() -> None:
    run = [*of("uec"), *of("python"), *of("mkdir")]
    assert [named(command) for command in COMMANDS if command not in run and reason(command) is None] == []
    unused = [beginning for beginning in NOT_RUN if not any(f"{' '.join(c.words)} ".startswith(beginning) for c in COMMANDS)]
    assert unused == []


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "make"], ids=named)
def test_make_knows_the_target(command: Command, project: Path) -> None:
    done = subprocess.run([*command.words, "-n"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", of("uec", "config"), ids=named)
def test_uec_config_explains_it(command: Command, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.words[1:]) == 0, folder
    assert command.words[-1 if len(command.words) < 3 else 2] in capsys.readouterr().out


@pytest.mark.parametrize("command", [c for c in of("uec", "train") if "runs/" not in c.text], ids=named)
def test_uec_train_takes_its_config_its_data_and_its_model(command: Command, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for before in (*of("mkdir"), *of("python")):
        subprocess.run([sys.executable if word == "python" else word for word in before.words], check=True, cwd=folder)
    own = STAND_IN if command.words[2] in ("my.yaml", "school.yaml") else []
    words = [*command.words[1:], *own, *([] if {"--dry-run", "--print-config"} & set(command.words) else ["--dry-run"])]
    assert main(words) == 0, capsys.readouterr().err


@pytest.mark.e2e
def test_every_command_on_a_finished_run_works(folder: Path, project: Path) -> None:
    def uec(*words: str) -> None:
        done = subprocess.run([sys.executable, "-m", "uec.commands.cli", *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"uec {' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    held_out = (project / "assets/countdown/data/eval.jsonl").read_text().splitlines()[:16]
    (folder / "held_out.jsonl").write_text("\n".join(held_out) + "\n")
    short = ("train.steps=2", "train.prompts_per_step=8", "eval.prompts=16", f"data.eval={folder / 'held_out.jsonl'}")
    uec("train", "configs/llm.yaml", "run.name=first", *short)
    shutil.copytree(folder / "runs/first", folder / "runs/baseline")
    config = folder / "runs/baseline/config.yaml"
    config.write_text(config.read_text().replace("name: first", "name: baseline"))
    for command in [*of("uec", "report"), *of("uec", "export"), *of("uec", "eval"), *of("uec", "doctor")]:
        uec(*command.words[1:], *(["--quick"] if "doctor" in command.text else []))
    for command in [c for c in of("uec", "train") if "runs/" in c.text]:
        uec(*command.words[1:], "--dry-run")


@pytest.mark.parametrize(("page", "configs"), [("README.md", OF_README), ("docs/hardware.md", OF_PAGE)])
def test_the_hardware_table_is_the_estimates(page: str, configs: list[str], project: Path) -> None:
    [shown] = re.findall(r"<!-- hardware -->\n(.*)<!-- /hardware -->", (project / page).read_text(), re.DOTALL)
    assert shown == table(configs), "run `python tests/support/hardware_table.py` and put its tables into README.md and docs/hardware.md"
