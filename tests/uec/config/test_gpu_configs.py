"""The configs for GPUs load, are valid, and go through a dry run with the model's config.json, a tokenizer and some rows at hand."""

import json
from pathlib import Path

import pytest

from tests.support.model_folders import DATA, PROJECT, model_folder
from uec.commands.cli import main
from uec.config.file import load_config
from uec.config.schema import Config

CONFIGS = sorted([*(PROJECT / "configs/gpu").glob("*.yaml"), *(PROJECT / "configs/paper").glob("*.yaml")])


def rows(cfg: Config, folder: Path) -> Path:
    """Some of what the config's data set holds, under its names of columns."""
    file = folder / "rows.jsonl"
    made = [{cfg.data.prompt_key: f"{n} + 4 = ?", cfg.data.answer_key: f"so #### {n + 4}"} for n in range(9)]
    if "VL" in cfg.model.path and cfg.data.image_key:
        pictures = sorted((DATA / "geometry3k/images").iterdir())
        made = [row | {cfg.data.image_key: [str(pictures[n % len(pictures)])]} for n, row in enumerate(made)]
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    return file


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.parent.name}/{config.stem}")
def test_a_dry_run_needs_no_weights_and_no_gpu(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = load_config(config, [])
    data = rows(cfg, tmp_path)
    model = model_folder(tmp_path / "model", cfg.model.path)
    words = ["train", str(config), f"model.path={model}", f"data.train={data}", f"data.eval={data}", f"run.dir={tmp_path}", "--dry-run"]
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "note: a run would be refused: model.path: " in said and "has no weights as .safetensors" in said

    assert f"fits {_size(config)} GB" in said


def _size(config: Path) -> int:
    """GB of the GPUs that the first lines name; 80 in the papers' where a file names its parent's."""
    said = " ".join(line for line in config.read_text().splitlines() if line.startswith("#"))
    return next((size for size in (24, 40, 48, 80) if f"{size} GB" in said), 80)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.parent.name}/{config.stem}")
def test_it_says_what_it_is_and_that_it_was_not_run(config: Path) -> None:
    said = [line for line in config.read_text().splitlines() if line.startswith("#")]
    assert any("Written, not run here: see docs/unverified.md." in line for line in said)


def test_a_run_without_weights_is_refused_before_any_actor_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_folder(tmp_path / "model", "Qwen2.5-0.5B-Instruct")
    assert main(["train", str(PROJECT / "configs/llm.yaml"), f"model.path={model}", f"run.dir={tmp_path / 'runs'}"]) == 2
    assert "has no weights as .safetensors" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("base", ["qwen2_5_math_7b", "qwen2_5_vl_7b_geometry3k"])
@pytest.mark.parametrize("algorithm", ["grpo", "dapo"])
def test_a_baseline_differs_from_the_papers_run_by_its_algorithm_alone(base: str, algorithm: str) -> None:
    ours, theirs = (load_config(PROJECT / f"configs/paper/{base}{suffix}.yaml", []) for suffix in ("", f"_{algorithm}"))
    assert theirs.algorithm == algorithm and not theirs.exploration.enabled and not theirs.replay.enabled
    for section in ("model", "data", "learner", "train", "eval"):
        assert getattr(ours, section) == getattr(theirs, section), section
    assert ours.rollout == theirs.rollout
    assert (theirs.loss.kl_coef, theirs.loss.clip_high) == ((0.0, 0.28) if algorithm == "dapo" else (0.01, 0.2))
    assert theirs.dynamic_sampling.enabled == (algorithm == "dapo")


def test_the_text_run_fills_the_models_context() -> None:
    cfg = load_config(PROJECT / "configs/paper/qwen2_5_math_7b.yaml", [])
    assert cfg.data.max_prompt_tokens + cfg.rollout.max_tokens == 4096
    assert (cfg.rollout.n, cfg.exploration.n, cfg.exploration.temperature, cfg.learner.optimizer_steps) == (5, 20, 1.2, 4)


def test_a_dry_run_says_that_this_machine_has_no_room(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = str(PROJECT / "configs/llm.yaml")
    assert main(["train", config, "cluster.address=local", "cluster.cpus=2", "learner.cpus=64", f"run.dir={tmp_path}", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "note: a run would be refused on this machine: the run wants 64.47 CPUs and the cluster has 2" in said
    assert "a run would be refused here, for what is noted last; all other checks passed" in said


def test_a_config_json_that_makes_no_model_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", "Qwen2.5-0.5B-Instruct")
    content = json.loads((model / "config.json").read_text()) | {"num_attention_heads": 0}
    (model / "config.json").write_text(json.dumps(content))
    assert main(["train", str(PROJECT / "configs/llm.yaml"), f"model.path={model}", f"run.dir={tmp_path}", "--dry-run"]) == 2
    assert "makes no model: " in capsys.readouterr().err
