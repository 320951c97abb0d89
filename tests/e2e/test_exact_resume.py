"""A run that is killed (SIGKILL of the driver) and resumed is the run that was never killed: prompts, replay, metrics and weights.

Sampling is deterministic: one engine that serves one request at a time (rollout.max_num_seqs=1), and exploration that begins after all
regular responses are graded (exploration.stream=false). The 10 prompts end an epoch within each third step.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uec.tracking.metrics_file import read_metrics

pytestmark = [pytest.mark.e2e, pytest.mark.long]

STEPS = 8
DETERMINISTIC = ("rollout.engines=1", "rollout.max_num_seqs=1", "exploration.stream=false")
SMALL = (
    f"train.steps={STEPS}", "train.prompts_per_step=4", "rollout.n=4", "exploration.n=4", "data.eval=null", "checkpoint.every=2",
    "checkpoint.keep=9", "replay.every=3", "replay.min_rows=2", "replay.min_advantage=0.1", "learner.lr=1e-4", "cluster.address=local",
)  # fmt: skip
TIMES = ("time/", "tokens_per_s", "forward_s", "backward_s", "optimizer_s", "weights/probe")  # a resumed run probes its first weights, too
TIMEOUT_S = 300.0


class Runs:
    """Runs on the same ten prompts."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.project, self.folder = project, folder
        lines = (project / "assets/countdown/data/train.jsonl").read_text().splitlines(keepends=True)
        (folder / "train.jsonl").write_text("".join(lines[:10]))

    def begin(self, name: str, *overrides: str) -> subprocess.Popen[bytes]:
        words = ["configs/llm.yaml", f"run.dir={self.folder}", f"run.name={name}", f"data.train={self.folder / 'train.jsonl'}"]
        command = [str(Path(sys.executable).parent / "uec"), "train", *words, *SMALL, *DETERMINISTIC, *overrides]
        with (self.folder / f"{name}.output").open("a") as output:
            return subprocess.Popen(command, cwd=self.project, stdout=output, stderr=subprocess.STDOUT)

    def end(self, name: str, *overrides: str) -> Path:
        driver = self.begin(name, *overrides)
        assert driver.wait(TIMEOUT_S) == 0, (self.folder / f"{name}.output").read_text()
        return self.folder / name

    def killed_after(self, name: str, step: int, *overrides: str) -> Path:
        """A run whose driver is killed once the checkpoint of a step is there; the next steps may have begun."""
        driver = self.begin(name, *overrides)
        checkpoint = self.folder / name / "checkpoints" / f"step_{step:06d}"
        deadline = time.monotonic() + TIMEOUT_S
        while not checkpoint.exists():
            assert driver.poll() is None and time.monotonic() < deadline, (self.folder / f"{name}.output").read_text()
            time.sleep(0.02)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        return self.folder / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def whole(runs: Runs) -> Path:
    """The run that was never killed."""
    return runs.end("whole")


def measured(run: Path) -> list[dict[str, float]]:
    """The metrics of each step, without times."""
    rows = read_metrics(run / "metrics.jsonl")
    return [{key: value for key, value in row.items() if not any(name in key for name in TIMES)} for row in rows]


def rollouts(run: Path, kind: str) -> dict[str, list[dict]]:
    """The lines of each file rollouts/`kind`_*.jsonl, without the groups' numbers, which each start of a run counts anew."""
    files = (run / "rollouts").glob(f"{kind}_*")
    return {path.name: [json.loads(line) | {"group": None} for line in path.read_text().splitlines()] for path in files}


def weights(run: Path) -> dict[str, bytes]:
    """Policy and learner state (weights, moments) of the last checkpoint."""
    last = run / "checkpoints" / f"step_{STEPS:06d}"
    files = [last / "hf/model.safetensors", *sorted((last / "learner").glob("state-*.safetensors"))]
    return {path.name: path.read_bytes() for path in files}


def assert_same(run: Path, whole: Path) -> None:
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert rollouts(run, "step") == rollouts(whole, "step")
    assert rollouts(run, "replayed") == rollouts(whole, "replayed") != {}
    assert measured(run) == measured(whole)
    assert weights(run) == weights(whole)


def test_a_run_killed_twice_ends_bit_for_bit_as_one_that_was_never_killed(runs: Runs, whole: Path) -> None:
    runs.killed_after("killed", 2)
    runs.killed_after("killed", 6, "run.resume=auto")
    assert_same(runs.end("killed", "run.resume=auto"), whole)


def test_a_flipped_bit_in_the_newest_checkpoint_costs_its_steps_and_changes_nothing(runs: Runs, whole: Path) -> None:
    run = runs.killed_after("flipped", 4)
    newest = max((run / "checkpoints").glob("step_*"))
    state = newest / "learner/state-00000.safetensors"
    content = bytearray(state.read_bytes())
    content[-5] ^= 1
    state.write_bytes(content)
    assert_same(runs.end("flipped", "run.resume=auto"), whole)
    assert f"checkpoint passed over: {newest}" in (runs.folder / "flipped.output").read_text().replace("\n", "")


def test_another_number_of_ranks_and_zero_stage_goes_on_with_the_same_prompts(runs: Runs, whole: Path) -> None:
    shutil.copytree(whole, runs.folder / "ranks")
    for path in (runs.folder / "ranks/checkpoints").glob("step_*"):
        if path.name > "step_000004":
            shutil.rmtree(path)
    run = runs.end("ranks", "run.resume=auto", "learner.ranks=2", "learner.zero_stage=3")
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == list(range(1, STEPS + 1))
    prompts = [{name: {line["prompt_index"] for line in lines} for name, lines in rollouts(one, "step").items()} for one in (run, whole)]
    assert prompts[0] == prompts[1]
    replayed = [[row["step"] for row in measured(one) if "replay/used" in row] for one in (run, whole)]
    assert replayed[0] == replayed[1]
