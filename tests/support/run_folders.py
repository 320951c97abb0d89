"""Folders of finished runs, made without a run, for tests of code that reads runs."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from uec.config.schema import Config
from uec.run_folder import save_config

SHIFT = 0.1
"""The final norm's weights of step s are shifted by s times this, so that checkpoints differ and still generate."""


def make_run(folder: Path, cfg: Config, model: Path, steps: tuple[int, ...] = (2, 3)) -> Path:
    """Write config.yaml, metrics.jsonl and checkpoints, whose models are `model` with another final norm."""
    folder.mkdir(parents=True)
    save_config(cfg, folder / "config.yaml")
    rows = [{"step": 0, "eval/pass@1": 0.25, "eval/pass@1_low": 0.2, "eval/pass@1_high": 0.3, "eval/entropy": 0.5}]
    rows += [{"step": step, "rollout/tokens": 1000.0} for step in range(1, max(steps) + 1)]
    rows[2] |= {"eval/pass@1": 0.375, "eval/pass@1_low": 0.3, "eval/pass@1_high": 0.4, "eval/entropy": 0.25}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in steps:
        checkpoint = folder / "checkpoints" / f"step_{step:06d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "driver.json").write_text("{}")
        hf = checkpoint / "hf"
        hf.mkdir()
        for path in model.iterdir():
            if path.is_file() and path.name != "README.md":
                shutil.copyfile(path, hf / path.name)
        weights = load_file(hf / "model.safetensors")
        weights["model.norm.weight"] += SHIFT * step
        save_file(weights, hf / "model.safetensors", metadata={"format": "pt"})
    return folder
