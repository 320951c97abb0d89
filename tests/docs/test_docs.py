"""The instructions of README.md and docs/ work: links lead to files, and a test runs every command or says why none does."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.doc_commands import Command, commands, pages, write_files
from tests.support.hardware_table import OF_PAGE, OF_README, table, turns_table
from uec.commands.cli import main

PROJECT = Path(__file__).resolve().parents[2]
COMMANDS = commands(PROJECT)

NOT_RUN = {  # beginning of a command: reason
    "ray ": "needs a cluster: tests/e2e/test_launch_job.py and tests/actors/runtime/test_cluster_nodes.py run these on separate ports",
    "uec bench": "minutes, on an idle machine: tests/bench/ runs its parts",
    "sbatch ": "needs Slurm: tests/launch/test_launch_slurm.py runs the script with stand-ins",
    "kubectl ": "needs Kubernetes: tests/launch/test_launch_files.py reads launch/kuberay.yaml",
    "docker ": "needs Docker: tests/launch/test_launch_files.py reads launch/Dockerfile.*",
    "make ": "minutes: `make -n` is run, and what it calls is run or dry-run here",
    "uec train configs/llm.yaml algorithm=my/file.yaml": "the file stands for one of the user's",
}
TESTED_ELSEWHERE = ("uec report", "uec eval", "uec export", "uec doctor", "uec train runs/")
"""Commands whose options other e2e tests cover, such as tests/e2e/test_eval.py. Those of docs/first-run.md run unchanged."""

PLAIN = ["README.md"] + [
    f"docs/{name}.md" for name in ("how-it-works", "first-run", "algorithms", "your-data", "vision", "evaluation", "contributing")
]

# Replace the hub model and the user's data, which tests do not have, in the configs my.yaml and school.yaml.
STAND_IN = [
    "model.path=assets/countdown",
    "data.chat=false",
    "data.template={prompt}",
    "data.max_prompt_tokens=16",
    "rollout.max_tokens=19",
]


def reason(command: Command) -> str | None:
    """Return why no test runs the command, or None if one does."""
    text = " ".join(command.words)
    if command.doc != "first-run.md" and text.startswith(TESTED_ELSEWHERE):
        return "it has other e2e tests"
    return next((why for beginning, why in NOT_RUN.items() if f"{text} ".startswith(beginning)), None)


def of(*words: str) -> list[Command]:
    """Return the commands that begin with these words and run in tests."""
    return [command for command in COMMANDS if tuple(command.words[: len(words)]) == words and reason(command) is None]


def named(command: Command) -> str:
    return f"{command.doc}: {' '.join(command.words)}"


@pytest.fixture
def folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder: configs and assets of a checkout, their data, and the files that the docs show."""
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


def test_every_link_leads_to_a_file(project: Path) -> None:
    links = [(doc, link) for doc in pages(project) for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", doc.read_text()) if "://" not in link]
    assert len(links) > 20
    assert [f"{doc.name}: {link}" for doc, link in links if not (doc.parent / link).exists()] == []


@pytest.mark.parametrize("name", PLAIN)
def test_a_page_is_short_and_its_tables_have_short_cells(name: str, project: Path) -> None:
    lines = (project / name).read_text().splitlines()
    assert len(lines) <= 200
    rows = [re.split(r"(?<!\\)\|", line) for line in lines if line.startswith("|")]
    assert [cell for row in rows for cell in row if len(cell.strip()) > 120] == []


def test_every_test_that_reliability_md_and_checkpoints_md_name_exists(project: Path) -> None:
    page = "".join((project / f"docs/{name}.md").read_text() for name in ("reliability", "checkpoints"))
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
    extra = STAND_IN if command.words[2] in ("my.yaml", "school.yaml") else []
    words = [*command.words[1:], *extra, *([] if {"--dry-run", "--print-config"} & set(command.words) else ["--dry-run"])]
    assert main(words) == 0, capsys.readouterr().err


@pytest.mark.long
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
    assert shown == table(configs), "run `python -m tests.support.hardware_table` and put its tables into README.md and docs/hardware.md"


def test_the_table_of_turns_is_the_estimates(project: Path) -> None:
    [shown] = re.findall(r"<!-- turns -->\n(.*)<!-- /turns -->", (project / "docs/hardware.md").read_text(), re.DOTALL)
    assert shown == turns_table(), "run `python -m tests.support.hardware_table` and put its last table into docs/hardware.md"
