"""What the campaign does to a run: the plan by a seed, the damages, the processes that it may touch, and how it reports."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench.chaos.__main__ import main
from bench.chaos.campaign import breaks_fallback
from bench.chaos.damage import WAYS, damage_checkpoint, tear_tail
from bench.chaos.faults import ENDINGS, LIGHT, plan
from bench.chaos.result import Outcome, Report
from bench.chaos.victims import MARK, Victims, kill
from uec.tracking.metrics_file import read_metrics


def test_a_seed_gives_the_same_plan_again_and_another_one_gives_another():
    assert plan(7, 20) == plan(7, 20)
    assert plan(7, 20) != plan(8, 20)


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_has_every_ending_once_and_every_other_fault_before_any_comes_again(seed):
    starts = plan(seed, len(LIGHT))
    endings = [[fault for fault in start.faults if fault not in LIGHT] for start in starts]
    assert sorted(map(str, endings)) == sorted(map(str, ENDINGS))
    counts = Counter(fault for start in starts for fault in start.faults if fault in LIGHT)
    assert sum(counts.values()) == len(LIGHT)
    assert max(counts.values()) == 1  # each once, because they are as many
    assert all(0 <= choice < 1 for start in starts for choice in start.choices)


@pytest.mark.parametrize("seed", range(5))
def test_vllms_own_process_is_only_killed_where_there_is_one(seed):
    killed = [start.engine for start in plan(seed, 40) for fault in start.faults if fault.target == "engine process"]
    assert killed and set(killed) == {"async"}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    for name in ("driver.json", "learner/rank_0.pt", "hf/model.safetensors"):
        path = tmp_path / "step_000004" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(range(1, 200)))
    (tmp_path / "step_000004/empty").write_bytes(b"")
    return tmp_path / "step_000004"


def test_successive_damages_meet_every_file_in_every_way(checkpoint):
    met = set()
    for number in range(3 * len(WAYS)):
        path = sorted(one for one in checkpoint.rglob("*") if one.name != "empty" and one.is_file())[number % 3]
        before = path.read_bytes()
        damaged, way = damage_checkpoint(checkpoint, number, np.random.default_rng(number))
        assert damaged == path
        assert not path.exists() or path.read_bytes() != before
        path.write_bytes(before)
        met.add((path.name, way))
    assert len(met) == 3 * len(WAYS)


def test_a_flipped_bit_is_one_bit(checkpoint):
    path = checkpoint / "driver.json"
    before = path.read_bytes()
    WAYS["bit flipped"](path, np.random.default_rng(0))
    assert sum((old ^ new).bit_count() for old, new in zip(before, path.read_bytes(), strict=True)) == 1


def test_a_torn_tail_leaves_all_complete_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": step, "loss": 0.5} for step in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tear_tail(path, np.random.default_rng(0))
    assert not path.read_bytes().endswith(b"\n") and read_metrics(path) == rows


def test_only_marked_processes_and_their_descendants_are_found_and_what_remains_is_named(tmp_path, monkeypatch):
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], env={}); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    mine = subprocess.Popen([sys.executable, "-c", child], env={MARK: "mine"})
    victims = Victims("mine")
    try:
        deadline = time.monotonic() + 20
        while len(victims.look()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        found = victims.look()
        assert len(found) == 2 and mine.pid in {one.pid for one in found} and other.pid not in {one.pid for one in found}
        kill(next(one for one in found if one.pid == mine.pid))
        mine.wait()
        (tmp_path / "vllm_dist_1").mkdir()
        [process, folder] = victims.remains(tmp_path, wait_s=0.0)  # the child has no mark, and its parent has ended
        assert process.startswith("process ") and folder == str(tmp_path / "vllm_dist_1")
        victims.end()
        (tmp_path / "vllm_dist_1").rmdir()
        assert victims.remains(tmp_path, wait_s=10.0) == []
        assert other.poll() is None
    finally:
        other.kill()
        mine.kill()
        victims.end()


SAID = "checkpoint passed over: /runs/a/checkpoints/step_000008/driver.json has other content"


@pytest.mark.parametrize(
    "status, said, broken",
    [
        (0, f"{SAID}; resuming from /runs/a/checkpoints/step_000004", ""),
        (2, SAID, ""),
        (0, "728 steps", "status 0, taken without a word"),
        (0, SAID, f"status 0, {SAID}"),  # it does not say from where it resumes
        (1, f"{SAID}; resuming from /runs/a/checkpoints/step_000004", "status 1, "),
        (2, "something is wrong", "status 2, something is wrong"),
    ],
)
def test_a_damaged_checkpoint_must_be_named_with_the_one_before_or_end_with_status_2(status, said, broken):
    found = breaks_fallback(status, said, Path("/runs/a/checkpoints/step_000008/driver.json"), ["step_000004", "step_000008"])
    assert found.startswith(broken) and bool(found) == bool(broken)


def test_a_report_is_right_only_if_every_promise_was_kept_and_the_books_are_right(tmp_path):
    report = Report(3, [Outcome("kill engine", "goes on", True, 12.0), Outcome("kill engine", "goes on", True, 20.0)])
    assert report.ok and report.rows() == [("kill engine", "goes on", 2, 2, 16.0, 20.0)]
    report.books.append("step 2 has no file of rollouts")
    assert not report.ok and report.broken() == ["books: step 2 has no file of rollouts"]
    report.books.clear()
    report.outcomes.append(Outcome("kill engine", "goes on", False, None, "no step followed"))
    assert not report.ok and report.rows()[0][2:4] == (3, 2)
    report.write(tmp_path / "chaos.json")
    assert json.loads((tmp_path / "chaos.json").read_text())["ok"] is False
    assert not Report(3).ok  # nothing was tried


def test_too_little_time_is_refused_with_status_2(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--minutes", "2"])
    assert end.value.code == 2 and "at least 4" in capsys.readouterr().err
