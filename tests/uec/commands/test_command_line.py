"""The commands' help, their examples, and docs/command-line.md."""

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from uec.commands.cli import COMMANDS, STATUSES, main, parser
from uec.commands.command_docs import document, examples
from uec.config.file import load_config
from uec.config.validate import validate
from uec.errors import EXIT_BAD_INPUT, EXIT_FAILURE, EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM, BadInput


def output_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        main(list(words))
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out + err


def test_help_lists_the_commands_and_how_to_enable_completion(capsys, project: Path) -> None:
    status, text = output_of(capsys, "--help")
    assert status == 0 and 'eval "$(.venv/bin/register-python-argcomplete uec)"' in text
    assert "argcomplete==" in (project / "setup.cfg").read_text()
    for command in COMMANDS:
        assert re.search(rf"^ +{command.NAME} +\S", text, re.MULTILINE), command.NAME


@pytest.mark.parametrize("name", ["", *(command.NAME for command in COMMANDS)])
def test_each_help_shows_a_real_example_and_the_exit_statuses(capsys, name: str) -> None:
    status, text = output_of(capsys, *filter(None, [name]), "--help")
    assert status == 0 and re.search(rf"^ +uec {name}", text, re.MULTILINE)
    listed = re.findall(r"^  (\d+) +(.+)$", text[text.index("exit status:") :], re.MULTILINE)
    assert [(int(number), meaning) for number, meaning in listed] == list(STATUSES.items())


def test_the_documented_exit_statuses_are_those_of_the_code() -> None:
    assert sorted(STATUSES) == sorted([0, EXIT_FAILURE, EXIT_BAD_INPUT, EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM])


@pytest.mark.parametrize("line", [line for command in COMMANDS for line in examples(command.EXAMPLES)])
def test_every_example_is_a_valid_command(line: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    understood = parser().parse_args(shlex.split(line, comments=True)[1:])
    if understood.command == "train" and not understood.config.startswith("runs/"):
        validate(load_config(understood.config, understood.overrides))


def test_bad_usage_ends_with_2_and_names_what_is_missing(capsys) -> None:
    status, text = output_of(capsys, "train")
    assert status == EXIT_BAD_INPUT and "required: CONFIG" in text and "required: CONFIG, " not in text
    status, text = output_of(capsys, "train", "a.yaml", "--nonsense")
    assert status == EXIT_BAD_INPUT and "--nonsense" in text
    status, text = output_of(capsys, "train", "a.yaml", "--print-config", "--dry-run")
    assert status == EXIT_BAD_INPUT and "not allowed with" in text


@pytest.mark.parametrize("words", [["x" * 5000], ["train", "a.yaml", f"--{'x' * 5000}"], ["report", "--groups", "x" * 5000]])
def test_bad_usage_is_shown_in_short(capsys, words: list[str]) -> None:
    status, text = output_of(capsys, *words)
    assert status == EXIT_BAD_INPUT and "xxx" in text and max(map(len, text.splitlines())) <= 1030


def test_a_reader_of_the_output_may_leave_early(project: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as after `| head -1`
    program = "from uec.commands import cli, config; config.run = lambda _: print('text ' * 50_000) or 0"
    command = [sys.executable, "-c", f"import sys; {program}; sys.exit(cli.script(['config']))"]
    found = subprocess.run(command, cwd=project, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (found.returncode, found.stderr) == (EXIT_FAILURE, "")


@pytest.mark.parametrize(
    "line", ["eval PATH", "eval m --to PATH", "export PATH --to out", "export m --to PATH", "report PATH", "report --to PATH"]
)
def test_a_path_that_leads_nowhere_is_refused_in_a_line(line: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    for path, wanted in {"x" * 5000: "is longer than", "a/" * 3000: "is longer than", "loop": "leads nowhere"}.items():
        assert main(line.replace("PATH", path).split()) == EXIT_BAD_INPUT
        [message] = capsys.readouterr().err.splitlines()
        assert wanted in message and len(message) < 300
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


def test_a_broken_pipe_that_is_not_the_outputs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    def fail(*_: object) -> None:
        raise BrokenPipeError("an actor's socket")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("uec.config.file.load_config", fail)
    assert main(["train", "configs/llm.yaml"]) == EXIT_FAILURE
    assert 'unexpected BrokenPipeError: "an actor' in capfd.readouterr().err


def test_the_document_is_current(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")  # the width of the terminal must not matter
    text = (project / "docs/command-line.md").read_text(encoding="utf-8")
    assert text == "\n".join(document()) + "\n", "run `python -m uec.commands.command_docs > docs/command-line.md`"


def test_the_document_has_an_example_for_every_command(project: Path) -> None:
    text = (project / "docs/command-line.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        part = text[text.index(f"## uec {command.NAME}\n") :].split("\n## ")[0]
        assert f"usage: uec {command.NAME} " in part and re.search(rf"^uec {command.NAME}\b", part, re.MULTILINE), command.NAME


@pytest.mark.parametrize(
    "error", [RecursionError("too deep"), OSError(28, "No space left"), NotImplementedError(), KeyError("\x1b[31m" * 500)]
)
def test_an_error_that_no_code_foresaw_is_one_line_and_a_private_file_with_the_traceback(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("uec.config.file.load_config", fail)
    assert main(["train", "configs/llm.yaml"]) == EXIT_FAILURE
    [line] = capsys.readouterr().err.splitlines()
    [file] = tmp_path.glob("uec-error-*.txt")
    assert line.startswith(f"uec: unexpected {type(error).__name__}: ") and str(file) in line
    assert len(line) <= 1010 and "\x1b" not in line
    assert "Traceback (most recent call last)" in file.read_text() and "in fail" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_message_is_at_most_a_screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> None:
        raise BadInput("\n".join(["x" * 5000] * 200))

    monkeypatch.setattr("uec.config.file.load_config", fail)
    assert main(["train", "configs/llm.yaml"]) == EXIT_BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 40 and lines[-1].strip() == "... and 161 more" and max(map(len, lines)) <= 1010
