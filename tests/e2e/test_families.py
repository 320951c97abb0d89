"""A random model of each family that transformers and vLLM know takes one real step: engine, grader, learner, weight sync, checkpoint.

After the update, engine and learner must agree on the log-probabilities, or the run ends.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests.support import tiny_text
from uec.tracking.metrics_file import read_metrics

pytestmark = pytest.mark.e2e

ON_CPU = [family for family in tiny_text.FAMILIES if family != "qwen3_moe"]
IN_CI = "gemma3_text"
"""Sliding windows in every second layer, so that rows are padded."""

SETTINGS = """
algorithm: grpo
model: {path: model}
data: {train: rows.jsonl, eval: null, max_prompt_tokens: 64}
reward: {fn: "rf.py:score"}
rollout: {n: 4, max_tokens: 48, max_num_seqs: 64, max_batched_tokens: 2048, kv_cache_mb: 64}
learner: {lr: 1.0e-3}
train: {steps: 1, prompts_per_step: 4}
eval: {every: 0, n: 2, k: [1], prompts: 2}
run: {dir: runs, name: one}
cluster: {object_store_mb: 100, address: local}
"""
REWARD = """
def score(response, answer, **row):
    return sum(response.encode()) % 101 / 100
"""


def prepare(folder: Path, family: str) -> None:
    tiny_text.build(family, folder / "model")
    rows = [{"prompt": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rf.py").write_text(REWARD)
    (folder / "run.yaml").write_text(SETTINGS)


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "uec"), "train", "run.yaml", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("family", [pytest.param(family, marks=() if family == IN_CI else pytest.mark.long) for family in ON_CPU])
def test_a_model_of_the_family_takes_a_step(family: str, tmp_path: Path) -> None:
    prepare(tmp_path, family)
    half = family == "qwen3_5_text"  # vLLM's CPU kernels of its linear attention take nothing else
    done = train(tmp_path, *(["model.dtype=bfloat16"] if half else []))
    assert done.returncode == 0, done.stdout + done.stderr
    tolerance = 0.1 if half else 1e-3
    *_, row = read_metrics(tmp_path / "runs/one/metrics.jsonl")
    assert row["weights/version"] == 1 and row["weights/probe_gap_mean"] < tolerance
    assert row["policy/grad_norm"] > 0 and row["policy/rollout_logprob_gap_mean"] < tolerance
    before = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "model").named_parameters())
    after = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "runs/one/checkpoints/step_000001/hf").named_parameters())
    assert before.keys() == after.keys()
    assert all((before[name] != after[name]).any() for name in before if name.endswith(("down_proj.weight", "embed_tokens.weight")))


def test_a_mixture_of_experts_is_refused_on_cpu_before_anything_starts(tmp_path: Path) -> None:
    prepare(tmp_path, "qwen3_moe")
    done = train(tmp_path, "--dry-run")
    assert done.returncode == 0 and "Qwen3MoeForCausalLM has 4 experts per layer" in done.stdout
    assert "a run would be refused on this machine: model.path: vLLM's CPU kernels keep a packed copy" in " ".join(done.stdout.split())
