"""The estimate of memory against real runs on CPU: a model of 33 M parameters, whose memory is sampled from start to end."""

from pathlib import Path

import pytest
from memory_run import big_model, measured, predicted

NEAR = 0.2


@pytest.mark.e2e
@pytest.mark.parametrize(
    "overrides",
    [("train.prompts_per_step=8",), ("learner.ranks=2", "learner.zero_stage=3", "learner.gradient_checkpointing=true")],
    ids=["zero 1", "two ranks, zero 3"],
)
def test_a_real_run_takes_what_was_estimated_within_a_fifth(overrides: tuple[str, ...], tmp_path: Path) -> None:
    cfg, found = measured(big_model(tmp_path / "model"), tmp_path, *overrides)
    learner, engine, total = predicted(cfg)
    assert len(found.of["learner"]) == cfg.learner.ranks and len(found.of["engine"]) == 1
    assert max(found.of["learner"]) == pytest.approx(learner, rel=NEAR)
    assert max(found.of["engine"]) == pytest.approx(engine, rel=NEAR)
    assert found.total == pytest.approx(total, rel=NEAR)
