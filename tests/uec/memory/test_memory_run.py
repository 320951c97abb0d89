"""The estimate of memory against real runs on CPU: a model of 33 M parameters, whose memory is sampled from start to end."""

from pathlib import Path

import pytest

from tests.support.memory_run import PROJECT, SHORT, big_model, measured, predicted
from uec.memory.workload import typical, worst_case

NEAR = 0.2


@pytest.mark.e2e
def test_a_real_run_takes_what_was_estimated_within_a_fifth(tmp_path: Path) -> None:
    cfg, found = measured(big_model(tmp_path / "model"), tmp_path, *SHORT, "train.prompts_per_step=8")
    learner, engine, total = predicted(cfg, worst_case(cfg.data.max_prompt_tokens))
    assert len(found.of["learner"]) == cfg.learner.ranks and len(found.of["engine"]) == 1
    assert max(found.of["learner"]) == pytest.approx(learner, rel=NEAR)
    assert max(found.of["engine"]) == pytest.approx(engine, rel=NEAR)
    assert found.total == pytest.approx(total, rel=NEAR)


@pytest.mark.long
@pytest.mark.e2e
def test_the_default_run_takes_the_typical_memory_of_its_dry_run(tmp_path: Path) -> None:
    cfg, found = measured(PROJECT / "assets/countdown", tmp_path, "train.steps=10")
    learner, engine, total = predicted(cfg, typical(prompt=7))
    assert max(found.of["learner"]) == pytest.approx(learner, rel=NEAR)
    assert max(found.of["engine"]) == pytest.approx(engine, rel=NEAR)
    assert found.total == pytest.approx(total, rel=NEAR)
