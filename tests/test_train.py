"""The whole loop for real: `uec train` on the default task, as a person would run it."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from uec.data.order import PromptOrder
from uec.tracking.metrics import describe
from uec.tracking.metrics_file import read_metrics

pytestmark = pytest.mark.e2e

# The keys that scripts outside rely on (design: metrics.jsonl), for a step in which all of it happened.
CONTRACT = """
step time/step_s time/generate_s time/reward_s time/learn_s time/sync_s time/idle_s
rollout/tokens rollout/tokens_per_s rollout/response_len_mean rollout/truncated_frac rollout/regular_tokens rollout/exploration_tokens
rollout/version_lag_max reward/mean reward/accuracy_mean reward/error_frac reward/timeout_frac reward/zero_std_frac
explore/difficult_frac explore/groups explore/solved_frac explore/temperature retain/kept_frac retain/regular retain/exploration
retain/overlong_dropped policy/loss policy/entropy policy/clip_frac policy/ratio_mean policy/grad_norm policy/lr policy/entropy_cov
policy/rollout_logprob_gap_max policy/rollout_logprob_gap_mean replay/size replay/admitted replay/used replay/age_mean replay/clip_frac
weights/version weights/bytes weights/probe_gap eval/pass@1 eval/pass@8 eval/pass@16 eval/entropy eval/response_len_mean
""".split()


def command(folder: Path, name: str, *overrides: str, config: str = "configs/llm.yaml") -> list[str]:
    program = str(Path(sys.executable).parent / "uec")
    return [program, "train", config, f"run.dir={folder}", f"run.name={name}", "cluster.address=local", *overrides]


def train(project: Path, folder: Path, name: str, *overrides: str, config: str = "configs/llm.yaml") -> tuple[Path, str]:
    """A run to its end; its folder and what it printed."""
    done = subprocess.run(command(folder, name, *overrides, config=config), cwd=project, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / name, done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def default_run(folder: Path) -> tuple[Path, str]:
    """40 steps of the default run with a smaller held-out set."""
    project = Path(__file__).resolve().parent.parent
    return train(project, folder, "default", "train.steps=40", "eval.prompts=96", "checkpoint.every=15", "weights.verify_every=10")


def test_accuracy_on_held_out_prompts_rises(default_run):
    rows = read_metrics(default_run[0] / "metrics.jsonl")
    before, after = rows[0], rows[-1]
    assert (before["step"], after["step"]) == (0, 40)
    assert after["eval/pass@1"] > before["eval/pass@1"] + 0.02
    assert after["eval/pass@16"] > before["eval/pass@16"]


def test_every_key_of_the_contract_is_there_finite_and_explained(default_run):
    rows = read_metrics(default_run[0] / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(41))
    seen = {key for row in rows for key in row}
    assert seen >= set(CONTRACT)
    assert [key for key in seen if describe(key) is None] == []
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_engine_and_learner_agree_on_every_trained_token_and_on_every_probe(default_run):
    rows = read_metrics(default_run[0] / "metrics.jsonl")[1:]
    assert max(row["policy/rollout_logprob_gap_max"] for row in rows) < 1e-3
    probes = [row["weights/probe_gap"] for row in rows if "weights/probe_gap" in row]
    assert len(probes) == 5  # the first update, and versions 10, 20, 30, 40
    assert max(probes) < 1e-3


def test_fresh_batches_start_at_ratio_one_and_are_never_stale(default_run):
    for row in read_metrics(default_run[0] / "metrics.jsonl")[1:]:
        assert row["policy/ratio_mean"] == pytest.approx(1, abs=1e-5)
        assert row["policy/clip_frac"] == 0
        assert row["rollout/version_lag_max"] == 0


def test_the_rollouts_of_a_step_can_be_read_with_their_kinds_and_advantages(default_run):
    lines = [json.loads(line) for line in (default_run[0] / "rollouts/step_000003.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"regular", "exploration"}
    assert sum(line["kind"] == "regular" for line in lines) == 32 * 8
    for line in lines:
        assert line["prompt"].endswith("=") and line["reward"] in (0.0, 1.0)
        if line["kind"] == "exploration" and line["kept"]:
            assert line["advantage"] > 0 and line["temperature"] == 1.2
    difficult = {line["prompt_index"] for line in lines if line["kind"] == "exploration"}
    assert all(line["accuracy"] == 0 for line in lines if line["kind"] == "regular" and line["prompt_index"] in difficult)


def test_the_newest_checkpoints_stay_and_their_model_loads_in_plain_transformers(default_run):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoints = sorted(path.name for path in (default_run[0] / "checkpoints").iterdir())
    assert checkpoints == ["step_000030", "step_000040"]
    hf = default_run[0] / "checkpoints/step_000040/hf"
    tokenizer = AutoTokenizer.from_pretrained(hf)
    model = AutoModelForCausalLM.from_pretrained(hf)
    prompt = tokenizer("3 8 7 : 45 =", return_tensors="pt")
    response = model.generate(**prompt, max_new_tokens=19, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(response, skip_special_tokens=True).count("=") == 2  # two steps use three numbers


def test_the_end_shows_before_and_after_and_where_the_run_lies(default_run):
    run, printed = default_run
    for word in ("pass@1", "pass@8", "pass@16", "entropy", "before", "after", str(run)):
        assert word in printed
    assert "\x1b[" not in printed  # stdout is no terminal: plain lines


@pytest.fixture(scope="module")
def interrupted_run(folder: Path) -> tuple[Path, subprocess.CompletedProcess]:
    """A long run that gets SIGTERM after its second step, with another kind of replay and a leftover batch."""
    project = Path(__file__).resolve().parent.parent
    overrides = ["train.steps=500", "eval.prompts=16", "batch.accumulate=true", "replay.min_rows=8", "replay.every=2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(folder, "interrupted", *overrides), cwd=project, start_new_session=True, **pipes)
    metrics = folder / "interrupted/metrics.jsonl"
    _wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3, process)
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    return folder / "interrupted", subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _wait_until(true: Callable[[], bool], process: subprocess.Popen, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_sigterm_leaves_a_checkpoint_and_says_how_to_go_on(interrupted_run):
    run, done = interrupted_run
    assert done.returncode == 143
    assert f"{run}/config.yaml run.resume=auto" in done.stderr
    [checkpoint] = (run / "checkpoints").iterdir()
    last = read_metrics(run / "metrics.jsonl")[-1]["step"]
    assert checkpoint.name == f"step_{last:06d}"


def test_a_restored_run_is_the_interrupted_one_bit_for_bit(interrupted_run, tmp_path):
    """Restore every actor from the checkpoint, save at once, and compare the two folders byte for byte."""
    from actors.checkpoint import Checkpoints
    from actors.controller import Controller
    from actors.exchange import WeightExchange
    from actors.rollout_log import RolloutLog
    from actors.supervisor import Supervisor
    from uec.config_file import load_config
    from uec.data.prompts import load_dataset
    from uec.models.source import load_tokenizer
    from uec.run_folder import RunFolder
    from uec.tracking.tracker import Tracker

    run, _ = interrupted_run
    [checkpoint] = (run / "checkpoints").iterdir()
    cfg = load_config(run / "config.yaml", [])
    dataset = load_dataset(cfg, load_tokenizer(cfg.model))
    tracker = Tracker([])
    folder = RunFolder(tmp_path / "again")

    async def restore_and_save() -> tuple[Path, Controller]:
        supervisor = Supervisor(cfg, "cpu", folder.logs, tracker)
        controller = Controller(
            cfg, supervisor, dataset, WeightExchange(cfg, supervisor, dataset.train, 1e-3), RolloutLog(folder, supervisor, False), tracker
        )
        checkpoints = Checkpoints(cfg, folder, supervisor)
        checkpoints.take_up(controller, checkpoint)
        await supervisor.start([*dataset.train, *dataset.eval])
        await checkpoints.restore(controller, checkpoint)
        return await checkpoints.save(controller), controller

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    try:
        again, controller = asyncio.run(restore_and_save())
    finally:
        ray.shutdown()
    names = sorted(str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(again)) for path in again.rglob("*") if path.is_file())
    assert [name for name in names if (checkpoint / name).read_bytes() != (again / name).read_bytes()] == []
    assert len(controller.batch) > 0  # the leftover batch was there to be restored
    driver = json.loads((checkpoint / "driver.json").read_text())
    assert controller.exchange.version == driver["version"]


def test_a_resumed_run_goes_on_with_the_next_prompts_and_ends_at_the_same_step(interrupted_run, project):
    run, _ = interrupted_run
    done_steps = read_metrics(run / "metrics.jsonl")[-1]["step"]
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": done_steps + 1, "time/step_s": 1.0}) + "\n")  # of a step that no checkpoint holds
    steps = done_steps + 2
    program = str(Path(sys.executable).parent / "uec")
    done = subprocess.run(
        [program, "train", str(run / "config.yaml"), "run.resume=auto", f"train.steps={steps}"],
        cwd=project, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(steps + 1))
    assert all("rollout/tokens" in row for row in rows[1:])
    order = PromptOrder(2048, 0, True)
    for step in range(1, steps + 1):
        lines = (run / f"rollouts/step_{step:06d}.jsonl").read_text().splitlines()
        assert {json.loads(line)["prompt_index"] for line in lines} == set(order.take(32)), step


def test_grpo_runs_with_two_zero_3_ranks_and_two_engines_with_processes_of_their_own(folder, project):
    run, _ = train(
        project, folder, "grpo", "algorithm=grpo", "train.steps=2", "eval.prompts=8", "learner.ranks=2", "learner.zero_stage=3",
        "rollout.engines=2", "rollout.backend=async", "learner.optimizer_steps=2", "loss.kl_coef=0.01",
    )  # fmt: skip
    rows = read_metrics(run / "metrics.jsonl")[1:]
    assert all(row["explore/groups"] == 0 and "replay/size" not in row for row in rows)
    assert all(row["explore/difficult_frac"] > 0 for row in rows)
    assert rows[-1]["policy/kl"] > 0
    assert max(row["policy/rollout_logprob_gap_max"] for row in rows) < 1e-3
