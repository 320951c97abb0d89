"""Weights & Biases, offline: the files in the run folder."""

import os
import time
from pathlib import Path

import pytest

from uec.config.schema import Config, WandbConfig
from uec.errors import BadInput
from uec.tracking.tracker import make_tracker

pytestmark = pytest.mark.e2e


def config() -> Config:
    return Config(tracking=["wandb"], wandb=WandbConfig(project="uec-test", mode="offline"))


# Runs before the other test: wandb keeps a key as long as the process lives.
def test_an_online_run_without_a_login_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    cfg = config()
    cfg.wandb.mode = "online"
    with pytest.raises(BadInput, match="wandb login.*wandb.mode=offline"), make_tracker(cfg) as tracker:
        tracker.start(cfg, tmp_path)


def test_an_offline_run_stores_config_and_metrics_and_resumes_with_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2 + "01234567")
    for first, step in ((True, 0), (False, 1)):
        with make_tracker(config()) as tracker:
            tracker.start(config(), tmp_path, step=step)
            tracker.log(step + 1, {"policy/entropy": 1.25, "policy/loss": float("nan")})
            tracker.evaluation(step + 1, {"eval/pass@16": 0.75})
            tracker.finish(tracker.summary(3.0))
        time.sleep(1.0)  # wandb names folders with a resolution of one second
        wandb.teardown()  # as at the end of a process: waits until wandb has written everything
        runs = sorted(tmp_path.glob("wandb/offline-run-*"))
        assert len(runs) == (1 if first else 2)
    run_id = (tmp_path / "wandb_id").read_text().strip()
    for run in runs:
        data = (run / f"run-{run_id}.wandb").read_bytes()
        for key in (b"policy/entropy", b"eval/pass@16", b"prompts_per_step", b"uec-test"):
            assert key in data, key
        assert b"policy/loss" not in data
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert os.environ["WANDB_API_KEY"].encode() not in file.read_bytes(), f"the key is in {file}"
