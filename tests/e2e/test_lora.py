"""LoRA for real: adapters that train, reach the engines by both exchanges, survive a resumption and become a whole model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from uec.tracking.metrics_file import read_metrics

pytestmark = pytest.mark.e2e

SHORT = ("lora.enabled=true", "lora.rank=8", "learner.lr=2e-3", "train.prompts_per_step=8", "eval.prompts=4", "checkpoint.every=1")
EVERY_VERSION = ("weights.canary=always", "weights.verify_every=1")
ADAPTER_BYTES = 1 << 20


def uec(project: Path, *arguments: str) -> str:
    program = str(Path(sys.executable).parent / "uec")
    done = subprocess.run([program, *arguments], cwd=project, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def train(project: Path, folder: Path, name: str, *overrides: str, config: str = "configs/llm.yaml") -> Path:
    uec(project, "train", config, f"run.dir={folder}", f"run.name={name}", "cluster.address=local", *SHORT, *overrides)
    return folder / name


def gaps(run: Path) -> list[float]:
    return [row["weights/probe_gap"] for row in read_metrics(run / "metrics.jsonl") if "weights/probe_gap" in row]


def test_adapters_alone_reach_the_engine_at_every_version(project, tmp_path):
    run = train(project, tmp_path, "adapter", "lora.exchange=adapter", "loss.kl_coef=0.01", "train.steps=2", *EVERY_VERSION)
    rows = [row for row in read_metrics(run / "metrics.jsonl") if "weights/bytes" in row]
    assert len(rows) == 2
    assert all(0 < row["weights/bytes"] < ADAPTER_BYTES for row in rows)
    assert len(gaps(run)) == 2
    assert max(gaps(run)) < 1e-3
    saved = load_file(run / "checkpoints/step_000002/hf/adapter_model.safetensors")
    assert any(tensor.abs().max() > 0 for name, tensor in saved.items() if name.endswith("lora_B.weight"))
    assert not (run / "checkpoints/step_000002/hf/model.safetensors").exists()


@pytest.mark.long
@pytest.mark.parametrize("config", ["configs/llm.yaml", "configs/vlm.yaml"])
def test_a_merged_run_resumes_and_becomes_a_whole_model(project, tmp_path, config):
    run = train(project, tmp_path, "merged", "train.steps=2", *EVERY_VERSION, config=config)
    assert max(gaps(run)) < 1e-3
    train(project, tmp_path, "merged", "train.steps=3", "run.resume=auto", *EVERY_VERSION, config=config)
    uec(project, "export", str(run), "--merge", "--to", str(tmp_path / "whole"))
    assert "architectures" in json.loads((tmp_path / "whole/config.json").read_text(encoding="utf-8"))
    results = uec(project, "eval", str(run), str(tmp_path / "whole"), "eval.prompts=4", "--to", str(tmp_path / "results"))
    assert "pass@1" in results
