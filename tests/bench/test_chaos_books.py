"""The books checker on run folders written by hand: it accepts a right one, and finds each kind of mistake."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.chaos import books
from uec.config.schema import Config
from uec.data.prompt_order import PromptOrder
from uec.run_folder import save_config
from uec.system.rollout_file import save_rollouts
from uec.types import Kind, Trajectory

PROMPTS, STEPS = 6, 2
ORDER = {"prompts": PROMPTS, "digest": "", "seed": 0, "shuffle": False, "epoch": 0, "cursor": 4}


def line(step: int, prompt: int, index: int, **changed) -> dict:
    """A response of a step with two prompts of two responses; the first one of each was right and is admitted to the replay store."""
    right = index == 0
    row = {
        "prompt_index": prompt, "group": prompt, "index": index, "kind": "regular", "version": step - 1, "tokens": 3,
        "advantage": 1.0 if right else -1.0, "accuracy": float(right), "kept": True,
    }  # fmt: skip
    return row | changed


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def entry(prompt: int) -> Trajectory:
    tokens = np.arange(3)
    return Trajectory(prompt, 0, prompt, Kind.REGULAR, 1.0, tokens, tokens, np.zeros(3, np.float32), False, (0,))


def write_store(run: Path, entries: list[tuple[int, int]]) -> None:
    """Write the replay store of the checkpoint; `entries`: step and prompt of each."""
    store = run / "checkpoints/step_000002/store"
    store.mkdir(parents=True, exist_ok=True)
    notes = [{"advantage": 1.0, "step": step} for step, _ in entries]
    save_rollouts(store / "replay.safetensors", [entry(prompt) for _, prompt in entries], notes)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two steps: prompts 0 and 1, then 2 and 3; four entries in the store, one of step 1 drawn in step 2."""
    cfg = Config()
    cfg.train.prompts_per_step, cfg.rollout.n, cfg.replay.capacity, cfg.replay.source = 2, 2, 100, "all"
    cfg.replay.enabled, cfg.replay.min_advantage = True, 0.0
    cfg.model.path, cfg.data.train, cfg.reward.fn = "model", "data.jsonl", "countdown"
    save_config(cfg, tmp_path / "config.yaml")
    metrics = [{"step": 0}] + [
        {"step": step, "weights/version": step, "replay/admitted": 2, "replay/size": 2 * step} for step in range(1, STEPS + 1)
    ]
    write_lines(tmp_path / "metrics.jsonl", metrics)
    for step in range(1, STEPS + 1):
        rows = [line(step, prompt, index) for prompt in (2 * step - 2, 2 * step - 1) for index in (0, 1)]
        write_lines(tmp_path / f"rollouts/step_{step:06d}.jsonl", rows)
    write_lines(tmp_path / "rollouts/replayed_000002.jsonl", [{"admitted": 1, "prompt_index": 0, "group": 0, "index": 0}])
    write_store(tmp_path, [(1, 0), (1, 1), (2, 2), (2, 3)])
    (tmp_path / "checkpoints/step_000002/driver.json").write_text(json.dumps({"driver": {"order": ORDER}}))
    return tmp_path


def change_lines(path: Path, change) -> None:
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    write_lines(path, change(rows))


def test_right_books_have_no_breach(run):
    assert PromptOrder(PROMPTS, 0, False).take(4) == [0, 1, 2, 3]
    assert books.breaches(run) == []


def test_a_doubled_prompt_is_found_with_the_one_that_it_displaced(run):
    change_lines(run / "rollouts/step_000002.jsonl", lambda rows: [*rows[:2], line(2, 2, 0, group=9), line(2, 2, 1, group=9)])
    assert "step 2: prompts {2: 1} too often, {3: 1} too rarely" in books.breaches(run)


def test_a_response_that_is_missing_or_doubled_is_found(run):
    change_lines(run / "rollouts/step_000001.jsonl", lambda rows: rows[:-1])
    assert books.breaches(run) == ["step 1: group 1 of prompt 1 has the responses [0], not 0 to 1"]
    change_lines(run / "rollouts/step_000001.jsonl", lambda rows: [*rows, line(1, 1, 1), line(1, 1, 1)])
    assert "step 1: group and index (1, 1) occur twice" in books.breaches(run)


def test_a_file_of_rollouts_that_is_missing_is_found(run):
    (run / "rollouts/step_000001.jsonl").unlink()
    assert "step 1 has no file of rollouts" in books.breaches(run)


def test_a_step_that_is_missing_or_doubled_in_the_metrics_is_found(run):
    change_lines(run / "metrics.jsonl", lambda rows: [*rows, rows[-1]])
    assert books.breaches(run) == ["metrics.jsonl does not have each of the steps 0 to 2 once, in order; wrong are [2]"]
    change_lines(run / "metrics.jsonl", lambda rows: [rows[0], rows[-1]])
    assert "wrong are [1]" in books.breaches(run)[0]


def test_a_response_of_refused_weights_is_found(run):
    change_lines(run / "rollouts/step_000002.jsonl", lambda rows: [rows[0] | {"version": 0}, *rows[1:]])
    assert books.breaches(run) == ["step 2: responses of weight versions [0], policy 1, train.max_staleness is 0"]


def test_a_lost_a_doubled_and_a_foreign_replay_entry_are_found(run):
    write_store(run, [(1, 0), (2, 2), (2, 3)])
    assert books.breaches(run) == ["replay store: 1 entries of step 1, and should be 2; lost is (1, 1, 1, 0)"]
    write_store(run, [(1, 0), (1, 1), (1, 1), (2, 2), (2, 3)])
    assert books.breaches(run) == ["replay store: (1, 1, 1, 0) (step, prompt, group, index) is there 2 times"]
    write_store(run, [(1, 0), (1, 1), (2, 2), (2, 3), (2, 5)])
    assert "replay store: (2, 5, 5, 0) (step, prompt, group, index) was never admitted" in books.breaches(run)


def test_a_full_store_may_have_lost_its_oldest_entries_and_no_other(run):
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("capacity: 100", "capacity: 3"))
    change_lines(run / "metrics.jsonl", lambda rows: [*rows[:-1], rows[-1] | {"replay/size": 3}])
    write_store(run, [(1, 1), (2, 2), (2, 3)])
    assert books.breaches(run) == []
    write_store(run, [(1, 0), (1, 1), (2, 3)])
    assert books.breaches(run) == [
        "replay store: 1 entries of step 2, and should be 2; lost is (2, 2, 2, 0)", "replay store: 2 entries of step 1, and should be 1",
    ]  # fmt: skip


def test_a_draw_of_an_entry_that_was_never_admitted_and_one_drawn_twice_are_found(run):
    drawn = {"admitted": 1, "prompt_index": 0, "group": 0, "index": 1}
    write_lines(run / "rollouts/replayed_000002.jsonl", [drawn, drawn])
    assert books.breaches(run) == [
        "step 2: the replay update drew an entry twice", "step 2: the replay update drew (1, 0, 0, 1), which was never admitted",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["checkpoints/.unfinished-step_000003", "rollouts/.step_000001.jsonl.77", "rollouts/step_000003.jsonl"])
def test_a_leftover_file_is_found(run, name):
    (run / name).write_text("")
    assert books.breaches(run) == [f"{name} is left over"]


@pytest.mark.parametrize("value, kept", [(0.50, True), (0.61, True), (0.65, False), (0.35, False)])
def test_an_evaluation_beyond_the_noise_is_found(tmp_path, value, kept):
    """The intervals are 0.12 and 0.04 wide, so that (0.12 + 0.04) / 2 + 0.05 = 0.13 are allowed."""
    for name, mean, half in (("disturbed", value, 0.06), ("undisturbed", 0.5, 0.02)):
        row = {"step": 3, "eval/pass@1": mean, "eval/pass@1_low": mean - half, "eval/pass@1_high": mean + half}
        write_lines(tmp_path / name / "metrics.jsonl", [row])
    assert (list(books.evaluations(tmp_path / "disturbed", tmp_path / "undisturbed")) == []) is kept
