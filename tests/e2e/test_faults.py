"""Real runs whose processes are killed (SIGKILL) or stopped (SIGSTOP) at a given step: what goes on, what ends, and what is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.long]

STEPS = 8
SMALL = (
    f"train.steps={STEPS}", "train.prompts_per_step=4", "eval.prompts=4", "eval.n=1", "eval.k=[1]", "rollout.n=4", "exploration.n=4",
    "checkpoint.every=2", "replay.every=2", "replay.min_rows=2", "replay.min_advantage=0.1", "cluster.address=local",
)  # fmt: skip
MARK = "UEC_TEST_FAULTS"
TIMEOUT_S = 400.0


class Run:
    """A run in a process of its own, and every process that it started."""

    def __init__(self, project: Path, folder: Path, *overrides: str) -> None:
        self.folder = folder / "run"
        self.mark = f"{MARK}={uuid.uuid4().hex}".encode()
        name, _, value = self.mark.decode().partition("=")
        program = str(Path(sys.executable).parent / "uec")
        command = [program, "train", "configs/llm.yaml", f"run.dir={folder}", "run.name=run", *SMALL, *overrides]
        self.output = folder / "output"
        with self.output.open("w") as output:
            self.driver = subprocess.Popen(
                command, cwd=project, env={**os.environ, name: value}, stdout=output, stderr=subprocess.STDOUT
            )
        self.weights_before = set(Path("/dev/shm").glob("uec-weights-*"))
        self.temporary_before = set(Path("/tmp").glob("vllm_dist_*")) | set(Path("/tmp").glob("uec-run-*"))

    def processes(self, title: str = "") -> list[int]:
        """The run's processes with `title` in their command line."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    ours = self.mark in (folder / "environ").read_bytes().split(b"\0")
                    if ours and title.encode() in (folder / "cmdline").read_bytes():
                        found.append(int(folder.name))
                except OSError:
                    continue
        return found

    def steps(self) -> list[int]:
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line)["step"] for line in lines if line.endswith("\n")]

    def hit(self, title: str, fault: signal.Signals, step: int) -> None:
        """Send a signal to an actor once this step is done."""
        while step not in self.steps():
            assert self.driver.poll() is None, self.output.read_text()
            time.sleep(0.05)
        [pid, *_] = self.processes(f"ray::{title}")
        os.kill(pid, fault)

    def end(self) -> int:
        return self.driver.wait(TIMEOUT_S)

    def failures(self) -> list[dict]:
        """The failures of actors in events.jsonl, each in the one form."""
        events = [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]
        found = [event for event in events if "actor" in event]
        assert all(set(event) == {"time", "step", "event", "actor", "node", "cause", "action", "seconds"} for event in found)
        return found

    def assert_nothing_left(self) -> None:
        deadline = time.monotonic() + 30
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.processes() == []
        assert set(Path("/dev/shm").glob("uec-weights-*")) <= self.weights_before
        temporary = set(Path("/tmp").glob("vllm_dist_*")) | set(Path("/tmp").glob("uec-run-*"))
        assert temporary <= self.temporary_before

    def assert_whole(self) -> None:
        """Each step is there once, and so are its rollouts."""
        assert self.steps() == list(range(STEPS + 1))
        assert [path.name for path in sorted((self.folder / "rollouts").glob("step_*"))] == [
            f"step_{step:06d}.jsonl" for step in range(1, STEPS + 1)
        ]


@pytest.mark.parametrize(
    ("title", "actor"),
    [("RewardActor", "reward-0"), ("DifficultyActor", "difficulty"), ("ReplayActor", "replay"), ("RolloutActor", "rollout-0")],
)
def test_a_killed_actor_is_replaced_and_no_step_is_lost(project: Path, tmp_path: Path, title: str, actor: str) -> None:
    run = Run(project, tmp_path)
    run.hit(title, signal.SIGKILL, step=2)
    assert run.end() == 0, run.output.read_text()
    run.assert_whole()
    assert [(one["actor"], one["action"]) for one in run.failures()] == [(actor, "restarting it (1 of 2)"), (actor, "replaced")]
    run.assert_nothing_left()


def test_a_stopped_engine_is_noticed_killed_and_replaced(project: Path, tmp_path: Path) -> None:
    run = Run(project, tmp_path, "supervise.timeout_s=15")
    run.hit("RolloutActor", signal.SIGSTOP, step=2)
    assert run.end() == 0, run.output.read_text()
    run.assert_whole()
    assert "no sign of life" in run.failures()[0]["cause"]
    run.assert_nothing_left()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_learner_takes_the_run_back_to_its_last_checkpoint(project: Path, tmp_path: Path, fault: signal.Signals) -> None:
    run = Run(project, tmp_path, "supervise.timeout_s=15")
    run.hit("LearnerActor", fault, step=3)
    assert run.end() == 0, run.output.read_text()
    run.assert_whole()
    assert [one["action"] for one in run.failures()] == ["going back to the last checkpoint (1 of 1)"]
    run.assert_nothing_left()


def test_without_a_checkpoint_the_run_begins_again(project: Path, tmp_path: Path) -> None:
    run = Run(project, tmp_path, "checkpoint.every=0")
    run.hit("LearnerActor", signal.SIGKILL, step=2)
    assert run.end() == 0, run.output.read_text()
    run.assert_whole()
    run.assert_nothing_left()


def test_a_learner_that_is_lost_too_often_ends_the_run_with_the_command_that_resumes(project: Path, tmp_path: Path) -> None:
    run = Run(project, tmp_path, "supervise.learner_restarts=0")
    run.hit("LearnerActor", signal.SIGKILL, step=3)
    assert run.end() == 1
    said = run.output.read_text()
    assert "learner-0 failed" in said and "last lines of" in said and f"{run.folder}/config.yaml run.resume=auto" in said
    assert run.failures()[-1]["action"] == "ending the run"
    run.assert_nothing_left()


def test_a_killed_driver_leaves_nothing(project: Path, tmp_path: Path) -> None:
    run = Run(project, tmp_path)
    while 2 not in run.steps():
        time.sleep(0.05)
    run.driver.send_signal(signal.SIGKILL)
    run.driver.wait()
    run.assert_nothing_left()
