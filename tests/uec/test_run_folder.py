"""Run folders: no foreign folder is touched, and a checkpoint is complete or absent."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from uec.checkpoint_files import FORMAT, list_files
from uec.config.file import load_config
from uec.config.schema import Config
from uec.errors import BadInput
from uec.run_folder import RunFolder
from uec.system.files import atomic_write

CONFIG = Path("configs/llm.yaml")


@pytest.fixture
def make(make_config, tmp_path: Path):
    def make(*overrides: str) -> Config:
        return make_config(f"run.dir={tmp_path}/runs", *overrides)

    return make


def opened(cfg: Config) -> RunFolder:
    folder = RunFolder.prepare(cfg, CONFIG)
    folder.open(cfg)
    return folder


def checkpoint(folder: RunFolder, step: int, keep: int = 9, content: str = "x") -> Path:
    unfinished = folder.begin_checkpoint(step)
    (unfinished / "hf").mkdir()
    (unfinished / "hf" / "weights").write_text(content)
    (unfinished / "driver.json").write_text(json.dumps({"format": FORMAT}))
    list_files(unfinished)
    return folder.commit_checkpoint(unfinished, step, keep)


def close(folder: RunFolder) -> None:
    """Release the lock, as the end of the process does."""
    folder._lock.close()


# --- names


def test_a_run_without_a_name_is_named_after_config_algorithm_and_time(make) -> None:
    cfg = make("algorithm=grpo")
    folder = RunFolder.prepare(cfg, CONFIG)
    assert re.fullmatch(r"llm-grpo-\d{8}-\d{6}", folder.name)
    assert cfg.run.name == folder.name


def test_two_runs_of_one_second_get_two_folders(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda form: "20260101-000000")
    assert [opened(make()).name for _ in range(3)] == [f"llm-uec-20260101-000000{end}" for end in ("", "-2", "-3")]


def test_a_config_with_an_odd_file_name_gives_a_plain_folder_name(make) -> None:
    assert RunFolder.prepare(make(), Path(".my config (2).yaml")).name.startswith("my_config_2_-uec-")


def test_nothing_is_written_before_the_folder_is_opened(make, tmp_path: Path) -> None:
    cfg = make("run.name=a")
    folder = RunFolder.prepare(cfg, CONFIG)
    assert list(tmp_path.iterdir()) == []
    folder.open(cfg)
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "checkpoints", "config.yaml", "journals", "logs", "rollouts"]
    assert load_config(folder.config, []).run.name == "a"


# --- folders that exist


def test_an_existing_run_is_not_touched_by_default(make) -> None:
    opened(make("run.name=a"))
    with pytest.raises(BadInput) as caught:
        RunFolder.prepare(make("run.name=a"), CONFIG)
    for fragment in ("runs/a exists", "run.resume=auto", "run.overwrite=true", "run.name"):
        assert fragment in str(caught.value)


def test_overwrite_replaces_the_whole_old_run(make) -> None:
    folder = opened(make("run.name=a"))
    checkpoint(folder, 5)
    (folder.path / "metrics.jsonl").write_text("{}")
    close(folder)
    again = opened(make("run.name=a", "run.overwrite=true"))
    assert again.latest_checkpoint() is None
    assert not (again.path / "metrics.jsonl").exists()


@pytest.mark.parametrize("how", ["run.overwrite=true", "run.resume=auto"])
def test_a_folder_that_no_run_made_is_neither_deleted_nor_continued(make, tmp_path: Path, how: str) -> None:
    thesis = tmp_path / "runs" / "a" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    (thesis.parent / "config.yaml").write_text("mine: true\n")
    with pytest.raises(BadInput, match="is not a run folder"):
        RunFolder.prepare(make("run.name=a", how), CONFIG)
    assert thesis.read_text() == "years of work"


def test_overwrite_does_not_follow_a_link(make, tmp_path: Path) -> None:
    folder = opened(make("run.name=real"))
    (tmp_path / "runs" / "a").symlink_to(folder.path)
    with pytest.raises(BadInput, match="is not a run folder"):
        RunFolder.prepare(make("run.name=a", "run.overwrite=true"), CONFIG)
    assert folder.config.exists()


def test_two_processes_cannot_write_to_one_run(make, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from uec.config.file import load_config; from uec.run_folder import RunFolder\n"
        "cfg = load_config(sys.argv[1], sys.argv[2:]); RunFolder.prepare(cfg, Path('a.yaml')).open(cfg)"
    )
    folder = opened(make("run.name=a"))
    start = [sys.executable, "-c", program, str(folder.config), f"run.dir={tmp_path}/runs", "run.resume=auto"]
    second = subprocess.run(start, capture_output=True, text=True)
    assert "BadInput: another process is writing" in second.stderr
    close(folder)
    assert subprocess.run(start).returncode == 0


@pytest.mark.parametrize("place", ["file/runs", "/proc/runs"])
def test_a_folder_that_cannot_be_made_is_bad_input(make_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(BadInput, match="run.dir"):
        opened(make_config(f"run.dir={place}", "run.name=a"))


# --- resuming


def test_resume_auto_takes_the_newest_checkpoint_or_none(make) -> None:
    cfg = make("run.name=a", "run.resume=auto")
    folder = RunFolder.prepare(cfg, CONFIG)
    assert folder.open(cfg) is None
    checkpoint(folder, 5)
    newest = checkpoint(folder, 10)
    close(folder)
    assert RunFolder.prepare(cfg, CONFIG).open(cfg) == newest


def test_a_run_resumed_by_its_config_yaml_is_found_after_a_move(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = opened(make("run.name=a"))
    checkpoint(folder, 5)
    close(folder)
    moved = folder.path.parent.rename(tmp_path / "archive") / "a"
    monkeypatch.chdir(tmp_path)
    cfg = load_config("archive/a/config.yaml", ["run.resume=auto"])
    again = RunFolder.prepare(cfg, Path("archive/a/config.yaml"))
    assert again.path == moved
    assert again.open(cfg) == moved / "checkpoints/step_000005"


def test_resume_by_path_continues_in_the_run_of_the_checkpoint(make) -> None:
    folder = opened(make("run.name=a"))
    path = checkpoint(folder, 5)
    again = RunFolder.prepare(make(f"run.resume={path}"), CONFIG)
    assert (again.path, again.resume_from) == (folder.path, path)


def test_resume_by_path_with_another_name_starts_a_new_run(make) -> None:
    path = checkpoint(opened(make("run.name=a")), 5)
    cfg = make(f"run.resume={path}", "run.name=b")
    branch = RunFolder.prepare(cfg, CONFIG)
    assert branch.open(cfg) == path
    assert branch.name == "b" and branch.latest_checkpoint() is None
    with pytest.raises(BadInput, match="exists"):
        RunFolder.prepare(make(f"run.resume={path}", "run.name=b"), CONFIG)


def test_resuming_before_newer_checkpoints_is_refused(make) -> None:
    folder = opened(make("run.name=a"))
    path = checkpoint(folder, 5)
    checkpoint(folder, 10)
    with pytest.raises(BadInput, match=r"newer checkpoints \(step_000010\)"):
        RunFolder.prepare(make(f"run.resume={path}"), CONFIG)
    RunFolder.prepare(make(f"run.resume={path}", "run.name=b"), CONFIG)


def test_a_path_that_is_not_a_checkpoint_is_refused_with_a_suggestion(make) -> None:
    folder = opened(make("run.name=a"))
    path = checkpoint(folder, 5)
    with pytest.raises(BadInput, match="does not exist"):
        RunFolder.prepare(make("run.resume=runs/none/checkpoints/step_000005"), CONFIG)
    with pytest.raises(BadInput, match=f"did you mean {path}"):
        RunFolder.prepare(make(f"run.resume={folder.path}"), CONFIG)


def test_rollouts_after_the_checkpoint_are_deleted(make) -> None:
    folder = opened(make("run.name=a"))
    for step in (5, 6, 7):
        (folder.rollouts / f"step_{step:06d}.jsonl").write_text("")
    for step in (6, 7):
        (folder.rollouts / f"replayed_{step:06d}.jsonl").write_text("")
    checkpoint(folder, 6)
    close(folder)
    opened(make("run.name=a", "run.resume=auto"))
    assert sorted(path.name for path in folder.rollouts.iterdir()) == ["replayed_000006.jsonl", "step_000005.jsonl", "step_000006.jsonl"]


# --- checkpoints


def test_a_checkpoint_counts_only_once_it_is_committed(make) -> None:
    folder = opened(make("run.name=a"))
    whole = checkpoint(folder, 5)
    unfinished = folder.begin_checkpoint(10)
    (unfinished / "half").write_text("")
    assert whole.name == "step_000005"
    assert folder.latest_checkpoint() == whole
    assert (folder.commit_checkpoint(unfinished, 10, 9) / "half").exists()
    assert folder.latest_checkpoint() == folder.checkpoints / "step_000010"


def test_checkpoints_are_ordered_by_number_and_the_newest_are_kept(make) -> None:
    folder = opened(make("run.name=a"))
    for step in (999_999, 1_000_000, 1_000_001):
        checkpoint(folder, step, keep=2)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["step_1000000", "step_1000001"]
    assert folder.latest_checkpoint() == folder.checkpoints / "step_1000001"


def test_a_checkpoint_of_the_same_step_replaces_the_old_one(make) -> None:
    folder = opened(make("run.name=a"))
    checkpoint(folder, 5, content="old")
    path = checkpoint(folder, 5, content="new")
    assert (path / "hf" / "weights").read_text() == "new"
    assert list(folder.checkpoints.iterdir()) == [path]


def test_remains_of_a_crash_are_deleted_and_a_replaced_checkpoint_is_restored(make) -> None:
    folder = opened(make("run.name=a"))
    path = checkpoint(folder, 5)
    folder.begin_checkpoint(10)
    path.rename(folder.checkpoints / ".replaced-step_000005")  # killed between the two renames of a replacement
    close(folder)
    cfg = make("run.name=a", "run.resume=auto")
    assert RunFolder.prepare(cfg, CONFIG).open(cfg) == path
    assert list(folder.checkpoints.iterdir()) == [path]


@pytest.mark.parametrize("name", ["hf/weights", "driver.json", "files.json"])
@pytest.mark.parametrize("fault", ["missing", "empty", "flipped"])
def test_a_damaged_checkpoint_is_named_and_set_aside_and_the_one_before_is_taken(make, name: str, fault: str) -> None:
    folder = opened(make("run.name=a"))
    before, newest = checkpoint(folder, 5), checkpoint(folder, 10)
    file = newest / name
    content = file.read_bytes()
    file.write_bytes(b"" if fault == "empty" else bytes([content[0] ^ 1]) + content[1:])
    if fault == "missing":
        file.unlink()
    close(folder)
    cfg = make("run.name=a", "run.resume=auto")
    again = RunFolder.prepare(cfg, CONFIG)
    assert again.open(cfg) == before
    assert str(file) in again.damaged[newest]
    assert sorted(path.name for path in again.checkpoints.iterdir()) == ["damaged-step_000010", "step_000005"]


def test_a_run_whose_only_checkpoint_is_damaged_is_refused_with_the_files_name(make) -> None:
    folder = opened(make("run.name=a"))
    file = checkpoint(folder, 5) / "hf/weights"
    file.write_text("y")
    close(folder)
    cfg = make("run.name=a", "run.resume=auto")
    with pytest.raises(BadInput, match="hf/weights has other content than was written .digest.; there is no earlier checkpoint"):
        RunFolder.prepare(cfg, CONFIG).checkpoint(cfg)


# --- atomic files


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write(path, "old")
    atomic_write(path, "nëw")
    assert path.read_bytes() == "nëw".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    atomic_write(path, "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
