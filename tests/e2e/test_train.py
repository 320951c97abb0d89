"""The whole loop for real: `uec train` on the two default tasks, of text and of images, as a user would run it."""

import asyncio
import json
import math
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from uec.data.prompt_order import PromptOrder
from uec.tracking.metrics import describe
from uec.tracking.metrics_file import read_metrics

pytestmark = pytest.mark.e2e

# The keys that scripts outside rely on (design: metrics.jsonl), for a step in which all of it happened.
CONTRACT = """
step time/step_s time/generate_s time/explore_s time/reward_s time/learn_s time/sync_s time/idle_s rollout/engine_tokens_per_s_min
rollout/tokens rollout/tokens_per_s rollout/response_len_mean rollout/truncated_frac rollout/regular_tokens rollout/exploration_tokens
rollout/version_lag_max reward/mean reward/accuracy_mean reward/error_frac reward/timeout_frac reward/zero_std_frac
explore/difficult_frac explore/groups explore/solved_frac explore/temperature retain/kept_frac retain/regular retain/exploration
retain/overlong_dropped policy/loss policy/entropy policy/clip_frac policy/ratio_mean policy/grad_norm policy/lr policy/entropy_cov
policy/rollout_logprob_gap_max policy/rollout_logprob_gap_mean replay/size replay/admitted replay/used replay/age_mean replay/clip_frac
weights/version weights/bytes weights/probe_gap weights/probe_gap_mean
eval/pass@1 eval/pass@8 eval/pass@16 eval/entropy eval/response_len_mean
""".split()


@dataclass(frozen=True)
class Task:
    """A default run, cut short."""

    config: str
    steps: int
    prompts: int  # a step
    rises: str  # what these steps raise by far more than the noise of 96 prompts
    gain: float  # at least
    overrides: tuple[str, ...] = ()
    ahead: int = 0  # steps: train.max_staleness

    @property
    def has_images(self) -> bool:
        return self.config == "configs/vlm.yaml"


AHEAD = ("train.max_staleness=1",)
TASKS = {
    "text": Task("configs/llm.yaml", 30, 32, "eval/pass@8", 0.03, AHEAD, ahead=1),
    "vision": Task("configs/vlm.yaml", 12, 48, "eval/pass@1", 0.04, ("train.prompts_per_step=48", "replay.every=4", "replay.min_rows=8")),
}


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


@pytest.fixture(scope="module", params=TASKS)
def task(request) -> Task:
    return TASKS[request.param]


@pytest.fixture(scope="module")
def default_run(folder: Path, task: Task) -> tuple[Path, str]:
    """Some steps of the default run with a smaller held-out set."""
    project = Path(__file__).resolve().parents[2]
    shorter = [f"train.steps={task.steps}", "eval.prompts=96", "checkpoint.every=10", "weights.verify_every=10", *task.overrides]
    return train(project, folder, f"default-{Path(task.config).stem}", *shorter, config=task.config)


def test_held_out_prompts_are_solved_more_often(default_run, task):
    rows = read_metrics(default_run[0] / "metrics.jsonl")
    before, after = rows[0], rows[-1]
    assert (before["step"], after["step"]) == (0, task.steps)
    assert after[task.rises] > before[task.rises] + task.gain
    assert after["eval/pass@1"] > before["eval/pass@1"] - 0.02  # the other one is no price for it


def test_every_key_of_the_contract_is_there_finite_and_explained(default_run, task):
    rows = read_metrics(default_run[0] / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(task.steps + 1))
    seen = {key for row in rows for key in row}
    assert seen >= set(CONTRACT)
    assert [key for key in seen if describe(key) is None] == []
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_engine_and_learner_agree_on_every_trained_token_and_on_every_probe(default_run, task):
    rows = read_metrics(default_run[0] / "metrics.jsonl")[1:]
    gaps = [row["policy/rollout_logprob_gap_max"] for row in rows if "policy/rollout_logprob_gap_max" in row]
    assert max(gaps) < 1e-3
    assert task.ahead or len(gaps) == len(rows)  # ahead, only what the newest weights sampled can be compared
    probes = [row["weights/probe_gap"] for row in rows if "weights/probe_gap" in row]
    assert len(probes) == 1 + task.steps // 10  # the first update, and every tenth version
    assert max(probes) < 1e-3


def test_fresh_batches_start_at_ratio_one_and_are_no_staler_than_allowed(default_run, task):
    rows = read_metrics(default_run[0] / "metrics.jsonl")[1:]
    for row in rows:
        assert row["policy/ratio_mean"] == pytest.approx(1, abs=1e-5)
        assert row["policy/clip_frac"] == 0
        assert row["rollout/version_lag_max"] <= task.ahead
        assert ("policy/behaviour_clip_frac" in row) == (task.ahead > 0)
    assert max(row["rollout/version_lag_max"] for row in rows) == task.ahead


def test_the_rollouts_of_a_step_can_be_read_with_their_kinds_and_advantages(default_run, task):
    lines = [json.loads(line) for line in (default_run[0] / "rollouts/step_000003.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"regular", "exploration"}
    assert sum(line["kind"] == "regular" for line in lines) == task.prompts * 8
    for line in lines:
        assert line["prompt"].endswith("<|im_start|>assistant\n" if task.has_images else "=") and line["reward"] in (0.0, 1.0)
        if line["kind"] == "exploration" and line["kept"]:
            assert line["advantage"] > 0 and line["temperature"] == 1.2
    difficult = {line["prompt_index"] for line in lines if line["kind"] == "exploration"}
    assert all(line["accuracy"] == 0 for line in lines if line["kind"] == "regular" and line["prompt_index"] in difficult)


def test_each_line_of_rollouts_names_its_image_and_it_can_be_opened(default_run, task):
    from PIL import Image

    lines = [json.loads(line) for line in (default_run[0] / "rollouts/step_000003.jsonl").read_text().splitlines()]
    if not task.has_images:
        assert not any("images" in line for line in lines)
        return
    for line in lines:
        [name] = line["images"]
        assert name.startswith("images/")
        with Image.open(default_run[0] / name) as image:
            assert image.size in ((84, 84), (112, 112))


def test_the_newest_checkpoints_stay_and_their_model_loads_in_plain_transformers(default_run, task):
    if not task.has_images:
        assert sorted(path.name for path in (default_run[0] / "checkpoints").iterdir()) == ["step_000020", "step_000030"]
        _continue_in_plain_transformers(default_run[0] / "checkpoints/step_000030/hf")
    else:
        assert sorted(path.name for path in (default_run[0] / "checkpoints").iterdir()) == ["step_000010", "step_000012"]
        _look_in_plain_transformers(default_run[0] / "checkpoints/step_000012/hf", default_run[0] / "images")


def _continue_in_plain_transformers(hf: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(hf)
    model = AutoModelForCausalLM.from_pretrained(hf)
    prompt = tokenizer("3 8 7 : 45 =", return_tensors="pt")
    response = model.generate(**prompt, max_new_tokens=19, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(response, skip_special_tokens=True).count("=") == 2  # two steps use three numbers


def _look_in_plain_transformers(hf: Path, images: Path) -> None:
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor, model = AutoProcessor.from_pretrained(hf), AutoModelForImageTextToText.from_pretrained(hf)
    content = [{"type": "image"}, {"type": "text", "text": "Find the perimeter."}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
    with Image.open(next(images.iterdir())) as image:
        prompt = processor(text=[text], images=[image], return_tensors="pt")
    response = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert re.fullmatch(r"w=.*\\boxed\{\d+\}", processor.decode(response, skip_special_tokens=True).strip())


def test_the_end_shows_before_and_after_and_where_the_run_lies(default_run):
    run, printed = default_run
    for word in ("pass@1", "pass@8", "pass@16", "entropy", "before", "after", str(run)):
        assert word in printed
    assert "\x1b[" not in printed  # stdout is no terminal: plain lines


@pytest.fixture(scope="module")
def interrupted_run(folder: Path) -> tuple[Path, subprocess.CompletedProcess]:
    """A long run that gets SIGTERM after its second step, with another kind of replay and a leftover batch, sampled one step ahead.

    It has images, and so covers all that a run of text has.
    """
    project, task = Path(__file__).resolve().parents[2], TASKS["vision"]
    name = f"interrupted-{Path(task.config).stem}"
    overrides = [*task.overrides, *AHEAD, "train.steps=500", "eval.prompts=16"]
    overrides += ["batch.accumulate=true", "replay.min_rows=8", "replay.every=2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(folder, name, *overrides, config=task.config), cwd=project, start_new_session=True, **pipes)
    metrics = folder / name / "metrics.jsonl"
    _wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3, process)
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    return folder / name, subprocess.CompletedProcess(process.args, process.returncode, out, err)


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


def test_a_terminal_that_is_closed_leaves_a_checkpoint(folder):
    """The hang-up reaches Ray's processes as well as the driver: they have to outlive it."""
    project, name = Path(__file__).resolve().parents[2], "closed"
    words = command(folder, name, "train.steps=500", "train.prompts_per_step=8", "data.eval=null")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project)
        os.execv(words[0], words)
    metrics, deadline = folder / name / "metrics.jsonl", time.monotonic() + 240
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
        assert time.monotonic() < deadline
        os.read(terminal, 1 << 16)
    os.close(terminal)
    os.killpg(pid, signal.SIGHUP)
    os.killpg(pid, signal.SIGHUP)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    [checkpoint] = (folder / name / "checkpoints").iterdir()
    assert checkpoint.name == f"step_{read_metrics(metrics)[-1]['step']:06d}"


def test_a_restored_run_is_the_interrupted_one_bit_for_bit(interrupted_run, tmp_path):
    """Restore every actor from the checkpoint, save at once, and compare the two folders byte for byte."""
    from actors.driver.actor_specs import supervise, training_actors
    from actors.driver.checkpoint import Checkpoints, read_driver
    from actors.driver.controller import Controller
    from actors.driver.rollout_log import RolloutLog
    from actors.driver.weight_sync import WeightSync
    from uec.config.file import load_config
    from uec.data.embedded_images import write_images
    from uec.data.prompts import load_dataset
    from uec.models.logprob_gap import Tolerance
    from uec.models.pretrained import load_tokenizer
    from uec.models.processor import load_processor
    from uec.run_folder import RunFolder
    from uec.tracking.tracker import Tracker

    run, _ = interrupted_run
    [checkpoint] = (run / "checkpoints").iterdir()
    cfg = load_config(run / "config.yaml", [])
    tokenizer = load_tokenizer(cfg.model)
    dataset = write_images(load_dataset(cfg, tokenizer, load_processor(cfg.model, cfg.data.image, tokenizer)), tmp_path / "images")
    tracker = Tracker([])
    folder = RunFolder(tmp_path / "again")

    async def restore_and_save() -> tuple[Path, Controller]:
        supervisor = supervise(cfg, training_actors(cfg, "cpu"), folder.logs, tracker)
        weights = WeightSync(cfg, supervisor, dataset.train, Tolerance(1e-3, 1e-3))
        controller = Controller(cfg, supervisor, dataset, weights, RolloutLog(folder, supervisor, False), tracker)
        checkpoints = Checkpoints(cfg, folder, supervisor)
        controller.load(read_driver(checkpoint)["driver"])
        await supervisor.start([*dataset.train, *dataset.eval])
        controller.batch.add(await checkpoints.restore(checkpoint))
        await checkpoints.begin(controller.steps_done, controller.state(), controller.batch.leftover())
        return await checkpoints.finish(), controller

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
    assert controller.weights.version == driver["driver"]["weights"]["version"]


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
        assert {json.loads(line)["prompt_index"] for line in lines} == set(order.take(TASKS["vision"].prompts)), step


def test_images_and_text_mix_over_two_zero_3_ranks_and_two_engines_in_separate_processes(folder, project, tmp_path):
    """Problems of Geometry3K, redrawn: real text, images of any size; some have no image, some have two. The tower is frozen."""
    source = project / "tests/data/geometry3k"
    rows = [json.loads(line) for line in (source / "train.jsonl").read_text().splitlines()]
    images = [str(source / row["image"]) for row in rows]
    for number, row in enumerate(rows):
        row["image"] = images[number : number + number % 3]
    (tmp_path / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # The model is right on none of them: this reward tells responses apart all the same.
    (tmp_path / "odd.py").write_text("def score(response, answer, **row):\n    return float(len(response) % 2)\n")
    run, _ = train(
        project, folder, "mixed", f"data.train={tmp_path / 'mixed.jsonl'}", "data.eval=null", "data.prompt_key=problem_text",
        "data.image_key=image", "data.image.max_pixels=60000", "data.max_prompt_tokens=900", f"reward.fn={tmp_path / 'odd.py'}:score",
        "train.steps=3", "train.prompts_per_step=6", "replay.min_rows=1", "replay.min_advantage=0.5", "rollout.engines=2",
        "rollout.backend=async", "rollout.max_tokens=12", "learner.ranks=2", "learner.zero_stage=3", "learner.micro_batch_tokens=2000",
        "loss.kl_coef=0.01", "model.freeze_vision_tower=true", "weights.verify_every=1", config="configs/vlm.yaml",
    )  # fmt: skip
    metrics = read_metrics(run / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [1, 2, 3]
    assert metrics[1]["replay/used"] > 0 and metrics[-1]["policy/kl"] > 0
    assert max(row["policy/rollout_logprob_gap_max"] for row in metrics if "policy/rollout_logprob_gap_max" in row) < 1e-3
    assert max(row["weights/probe_gap"] for row in metrics if "weights/probe_gap" in row) < 1e-3
    lines = [json.loads(line) for step in (1, 2, 3) for line in (run / f"rollouts/step_{step:06d}.jsonl").read_text().splitlines()]
    assert {len(line.get("images", [])) for line in lines} == {0, 1, 2}
    # Only what is trained is sent: 1.12 M parameters of four bytes, less .28 M of the tower.
    assert metrics[0]["weights/bytes"] < 0.8 * (project / "assets/geometry/model.safetensors").stat().st_size
