"""The configs for GPUs are valid, and pass a dry run with the model's config.json, a tokenizer and some rows."""

import json
from pathlib import Path

import pytest

from actors.programs import dry_run
from tests.support.model_folders import DATA, PROJECT, model_folder
from uec.commands.cli import main
from uec.config.file import load_config
from uec.config.schema import Config
from uec.system.gpu_devices import Gpu

CONFIGS = sorted([*(PROJECT / "configs/gpu").glob("*.yaml"), *(PROJECT / "configs/paper").glob("*.yaml")])


def rows(cfg: Config, folder: Path) -> Path:
    """Write rows with the columns of the config's dataset; return the file."""
    file = folder / "rows.jsonl"
    data = [{cfg.data.prompt_key: f"{n} + 4 = ?", cfg.data.answer_key: f"so #### {n + 4}"} for n in range(9)]
    if "VL" in cfg.model.path and cfg.data.image_key:
        images = sorted((DATA / "geometry3k/images").iterdir())
        data = [row | {cfg.data.image_key: [str(images[n % len(images)])]} for n, row in enumerate(data)]
    file.write_text("".join(json.dumps(row) + "\n" for row in data))
    return file


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.parent.name}/{config.stem}")
def test_a_dry_run_needs_no_weights_and_no_gpu(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = load_config(config, [])
    data = rows(cfg, tmp_path)
    model = model_folder(tmp_path / "model", cfg.model.path)
    words = ["train", str(config), f"model.path={model}", f"data.train={data}", f"data.eval={data}", f"run.dir={tmp_path}", "--dry-run"]
    assert main(words) == 0, capsys.readouterr().err
    text = capsys.readouterr().out
    assert "note: a run would be refused: model.path: " in text and "has no weights as .safetensors" in text

    assert f"fits {_size(config)} GB" in text


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.parent.name}/{config.stem}")
def test_on_one_gpu_a_dry_run_says_what_it_would_do(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_gpu(monkeypatch)
    cfg = load_config(config, [])
    data, model = rows(cfg, tmp_path), model_folder(tmp_path / "model", cfg.model.path)
    words = ["train", str(config), f"model.path={model}", f"data.train={data}", f"data.eval={data}", f"run.dir={tmp_path}"]
    assert main([*words, "cluster.address=local", "--dry-run"]) == 0, capsys.readouterr().err
    text = capsys.readouterr().out
    pairs = cfg.cluster.placement == "colocated"
    assert ("the cluster has 1" in text) != pairs
    if not pairs:
        assert "the run wants 8 GPUs and the cluster has 1: rollout.engines=4 x rollout.tensor_parallel=1, learner.ranks=4" in text
        assert main([*words, "cluster.address=local", "rollout.engines=1", "learner.ranks=1", "cluster.placement=auto", "--dry-run"]) == 0
        text = capsys.readouterr().out
        assert "cluster.placement=colocated: the cluster has 1 GPU, and separate ones would be 2" in text
    assert "1 shared GPU:" in text and "rollout.max_num_seqs=1024" in text


def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a dry run find one GPU of 80 GB on this machine, which has none."""
    monkeypatch.setattr(dry_run, "gpu_count", lambda: 1)
    monkeypatch.setattr(dry_run, "smallest_gpu", lambda: Gpu("NVIDIA H100 80GB HBM3", 80 << 30))


def test_on_one_gpu_the_default_run_is_not_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_gpu(monkeypatch)
    words = ["train", str(PROJECT / "configs/llm.yaml"), "cluster.address=local", "cluster.cpus=2", f"run.dir={tmp_path}", "--dry-run"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "cluster.placement=colocated" in text and "all checks passed" in text


def _size(config: Path) -> int:
    """Return the GB of a GPU that the comment names; 80 if it names none."""
    text = " ".join(line for line in config.read_text().splitlines() if line.startswith("#"))
    return next((size for size in (24, 40, 48, 80) if f"{size} GB" in text), 80)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.parent.name}/{config.stem}")
def test_a_config_for_gpus_says_that_it_is_untested(config: Path) -> None:
    text = [line for line in config.read_text().splitlines() if line.startswith("#")]
    assert any("Untested: see docs/unverified.md." in line for line in text)


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


def test_a_dry_run_reports_that_this_machine_has_too_few_cpus(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = str(PROJECT / "configs/llm.yaml")
    assert main(["train", config, "cluster.address=local", "cluster.cpus=2", "learner.cpus=64", f"run.dir={tmp_path}", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "note: a run would be refused on this machine: the run wants 64.47 CPUs and the cluster has 2" in text
    assert "a run would be refused here, for what is noted last; all other checks passed" in text


def test_an_invalid_config_json_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", "Qwen2.5-0.5B-Instruct")
    content = json.loads((model / "config.json").read_text()) | {"num_attention_heads": 0}
    (model / "config.json").write_text(json.dumps(content))
    assert main(["train", str(PROJECT / "configs/llm.yaml"), f"model.path={model}", f"run.dir={tmp_path}", "--dry-run"]) == 2
    assert "has num_attention_heads=0; expected 1 to 4096" in capsys.readouterr().err
