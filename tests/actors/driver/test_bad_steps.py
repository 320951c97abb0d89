"""Optimizer steps that were left out: what is kept of them, and when they end the run."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.driver.bad_steps import KEPT, BadSteps
from actors.driver.learner_group import Updated
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.run_folder import RunFolder

BAD, GOOD = {"learner/skipped_steps": 1.0}, {"learner/skipped_steps": 0.0}


class Recorder:
    """A supervisor of two learners, which write what they are given."""

    def __init__(self) -> None:
        self.learners = ["learner-0", "learner-1"]
        self.events: list[str] = []
        self.tracker = SimpleNamespace(event=self.events.append)

    async def call(self, rank: str, method: str, path: str, *args: Any) -> None:
        assert method == "write_batch"
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(f"{rank} {args}")


def made(folder: Path) -> tuple[BadSteps, Recorder]:
    recorder = Recorder()
    return BadSteps(Config(), recorder, SimpleNamespace(folder=RunFolder(folder))), recorder


def test_the_last_of_three_steps_in_a_row_ends_the_run_with_what_to_look_at(tmp_path: Path) -> None:
    steps, recorder = made(tmp_path)
    for number, metrics in enumerate([BAD, BAD, GOOD, BAD, {}, GOOD | {"replay/skipped_steps": 2.0}], 1):
        steps.end_step(number, metrics)  # a step without an update neither counts nor forgives
    assert len(recorder.events) == 4
    assert recorder.events[-1] == "step 6: 2 optimizer steps left out, because loss or gradient is not finite (2 of 3 steps in a row)"
    with pytest.raises(RunFailed, match=r"in 3 steps in a row, up to step 7 \(train.max_bad_steps\).*bad_batches"):
        steps.end_step(7, BAD)


def test_each_rank_writes_its_share_of_the_first_bad_batches_only(tmp_path: Path) -> None:
    steps, _ = made(tmp_path)
    shares = [("plan-0", ["batch"]), ("plan-1", [])]
    for number in range(KEPT + 3):
        asyncio.run(steps.keep(f"step_{number:06d}", Updated(BAD, [], [], shares)))
        asyncio.run(steps.keep(f"good_{number:06d}", Updated(GOOD, [], [], shares)))
    folder = tmp_path / "bad_batches"
    assert sorted(path.name for path in folder.iterdir()) == [f"step_{number:06d}" for number in range(KEPT)]
    assert (folder / "step_000000/rank-00000.jsonl").read_text() == "learner-0 ('plan-0', 'batch')"
    assert (folder / "step_000000/rank-00001.jsonl").read_text() == "learner-1 ('plan-1',)"
