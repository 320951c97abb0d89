"""The configs of the paper (arXiv 2604.14646) have its settings and are valid; running them needs GPUs."""

from pathlib import Path

import pytest

from uec.config.file import load_config


@pytest.fixture
def geometry3k(project: Path) -> Path:
    return project / "configs/paper/qwen2_5_vl_7b_geometry3k.yaml"


def test_the_vision_recipe_has_the_papers_numbers(geometry3k):
    cfg = load_config(geometry3k, [])
    assert (cfg.rollout.n, cfg.rollout.temperature, cfg.rollout.top_p) == (5, 1.0, 0.99)
    assert (cfg.exploration.n, cfg.exploration.temperature, cfg.train.prompts_per_step) == (20, 1.2, 512)
    assert (cfg.learner.lr, cfg.learner.weight_decay, cfg.learner.grad_clip, cfg.learner.optimizer_steps) == (1e-6, 1e-2, 1.0, 4)
    assert (cfg.loss.clip_low, cfg.loss.clip_high, cfg.loss.dual_clip, cfg.loss.aggregation) == (0.2, 0.2, 3.0, "token-mean")
    assert (cfg.loss.kl_coef, cfg.loss.kl_estimator, cfg.eval.temperature, cfg.eval.n) == (1e-2, "k3", 0.5, 1)
    assert (cfg.data.train, cfg.model.path) == ("hiyouga/geometry3k", "Qwen/Qwen2.5-VL-7B-Instruct")


def test_its_baseline_is_the_same_run_without_exploration_and_replay(geometry3k):
    cfg = load_config(geometry3k, ["algorithm=grpo"])
    assert not cfg.exploration.enabled and not cfg.replay.enabled
    assert (cfg.rollout.n, cfg.learner.lr, cfg.train.prompts_per_step) == (5, 1e-6, 512)
