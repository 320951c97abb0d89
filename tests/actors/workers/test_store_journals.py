"""A DifficultyActor or ReplayActor that dies is replaced by one with its state, and a repeated call is applied once."""

import json
from pathlib import Path

import numpy as np

from actors.workers import replay
from actors.workers.difficulty import DifficultyActor
from actors.workers.replay import ReplayActor
from tests.support.examples import sample, trajectory
from uec.config.schema import Config, ReplayConfig
from uec.types import Kind, Outcome, ScheduleState, TrainingSample, Trajectory

NOW = ScheduleState(done=0.1, exploring=True)


def difficulty(folder: Path, replaces: bool = False) -> DifficultyActor:
    actor = DifficultyActor(Config(), folder / "difficulty.journal")
    actor.start(replaces)
    return actor


def store(folder: Path, replaces: bool = False, **settings) -> ReplayActor:
    actor = ReplayActor(Config(replay=ReplayConfig(logprobs="recomputed", **settings)), folder / "replay.journal")
    actor.start(replaces)
    return actor


def admit(actor: ReplayActor, step: int, count: int) -> int:
    batch = [trajectory(100 * step + i, length=2 + i % 4) for i in range(count)]
    return actor.admit(step, [sample(1.0, advantage=1.5 + i, slot=i, batch=0) for i in range(count)], [], batch)


def drawn(answer: tuple[list[TrainingSample], list[Trajectory]]) -> list[tuple[int, float, int | None]]:
    samples, trajectories = answer
    assert [one.prompt for one in samples] == [one.prompt for one in trajectories]
    return [(one.prompt, one.advantage, one.admitted) for one in samples]


def wrong(prompt: int, kind: Kind = Kind.REGULAR) -> Outcome:
    return Outcome(prompt, kind, 4, 0, 0.0)


def test_the_history_comes_back_with_what_was_recorded_since_the_last_checkpoint(tmp_path: Path) -> None:
    first = difficulty(tmp_path)
    first.classify([wrong(1), Outcome(2, Kind.REGULAR, 4, 3, 0.75)], NOW, 0)
    first.state()  # a checkpoint
    first.classify([wrong(1)], NOW, 1)
    first.classify([Outcome(1, Kind.EXPLORATION, 8, 2, 0.25)], NOW, 2)
    second = difficulty(tmp_path, replaces=True)
    assert second.state() == first.state()
    assert second.history.records[1].responses == 4 + 4 + 8 and second.history.records[1].visits == 2


def test_a_repeated_classification_is_recorded_once_and_answered_alike(tmp_path: Path) -> None:
    first = difficulty(tmp_path)
    verdicts = [first.classify([wrong(prompt)], NOW, prompt) for prompt in range(3)]
    first.state()
    second = difficulty(tmp_path, replaces=True)
    assert [second.classify([wrong(prompt)], NOW, prompt) for prompt in range(3)] == verdicts
    assert second.history.groups == 3
    assert verdicts[0][0].difficult and second.classify([wrong(0)], NOW, 3)[0].difficult
    assert second.history.groups == 4


def test_the_store_comes_back_with_all_entries_and_the_same_next_draws(tmp_path: Path) -> None:
    first = store(tmp_path, capacity=6)
    admit(first, 1, 4)
    first.draw(1, 2)
    (tmp_path / "checkpoint").mkdir()
    first.save(str(tmp_path / "checkpoint"), [])
    admit(first, 2, 4)  # the two oldest go
    first.draw(2, 3)
    second = store(tmp_path, replaces=True, capacity=6)
    for one, other in zip(first.store.entries, second.store.entries, strict=True):
        assert (one.advantage, one.step, one.trajectory.prompt) == (other.advantage, other.step, other.trajectory.prompt)
        np.testing.assert_array_equal(one.trajectory.tokens, other.trajectory.tokens)
    for step in (3, 4, 5):
        assert drawn(first.draw(step, 3)) == drawn(second.draw(step, 3))


def test_a_repeated_admission_or_draw_of_a_step_changes_nothing(tmp_path: Path) -> None:
    first = store(tmp_path, capacity=20)
    admit(first, 1, 5)
    found = drawn(first.draw(1, 3))
    second = store(tmp_path, replaces=True, capacity=20)  # the answers were lost with the first
    assert admit(second, 1, 5) == 5
    assert drawn(second.draw(1, 3)) == found
    assert drawn(second.draw(2, 3)) == drawn(first.draw(2, 3))


def test_an_admission_that_was_cut_off_is_admitted_by_the_repeated_call(tmp_path: Path) -> None:
    first = store(tmp_path, capacity=20)
    admit(first, 1, 2)
    admit(first, 2, 3)
    path = tmp_path / "replay.journal"
    path.write_bytes(path.read_bytes()[:-1])
    second = store(tmp_path, replaces=True, capacity=20)
    assert second.size() == 2
    assert admit(second, 2, 3) == 5


def test_the_journal_stays_small_without_checkpoints(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(replay, "JOURNAL_RECORDS", 4)
    actor = store(tmp_path, capacity=3)
    sizes = []
    for step in range(1, 20):
        admit(actor, step, 2)
        sizes.append((tmp_path / "replay.journal").stat().st_size)
    assert max(sizes[10:]) <= max(sizes[:10]) * 1.1
    assert drawn(store(tmp_path, replaces=True, capacity=3).draw(20, 3)) == drawn(actor.draw(20, 3))


def test_a_new_run_does_not_read_the_journal_of_an_old_one(tmp_path: Path) -> None:
    difficulty(tmp_path).classify([wrong(1)], NOW, 0)
    admit(store(tmp_path), 1, 2)
    assert difficulty(tmp_path).state() == {"groups": 0, "prompts": []}
    assert store(tmp_path).size() == 0
    assert json.dumps(difficulty(tmp_path, replaces=True).state()["prompts"]) == "[]"
