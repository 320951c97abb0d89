"""States of a learner in host memory: real DeepSpeed on CPU, where a move changes no device but runs the same code."""

import pytest
import torch

from tests.support.learner_ranks import assert_equal, saved_tensors
from tests.support.text_learner import (
    ADVANTAGES,
    loaded_and_continued,
    plans,
    rollouts,
    saved_and_continued,
    trained_and_saved,
    trained_between_offloads,
)

BATCHES = [(plans(rows, ADVANTAGES, ranks=2), rows) for rows in (rollouts(12, seed=1), rollouts(12, seed=2), rollouts(12, seed=3))]


@pytest.mark.e2e
@pytest.mark.parametrize("stage, dtype", [(0, "float32"), (1, "float32"), (2, "bfloat16"), (3, "bfloat16")])
def test_training_goes_on_bit_for_bit_after_states_were_away(two, cfg, tmp_path, stage, dtype):
    make = (f"learner.zero_stage={stage}", f"model.dtype={dtype}")
    plain = two.run(trained_and_saved, cfg(*make), BATCHES, str(tmp_path / "plain"))
    for offload in ("optimizer", "all"):
        moved = two.run(trained_between_offloads, cfg(*make, f"learner.offload={offload}"), BATCHES, str(tmp_path / offload))
        for ours, theirs in zip(moved, plain, strict=True):
            assert_equal(ours.weights, theirs.weights)
            assert ours.metrics[-1]["policy/grad_norm"] == theirs.metrics[-1]["policy/grad_norm"]
        for kind in ("weight", "exp_avg", "exp_avg_sq"):
            assert_equal(saved_tensors(tmp_path / offload, kind), saved_tensors(tmp_path / "plain", kind))


@pytest.mark.e2e
@pytest.mark.parametrize("stage, offload", [(1, "optimizer"), (2, "optimizer"), (3, "optimizer"), (3, "parameters")])
def test_an_optimizer_in_host_memory_gives_the_same_training_and_resumes(two, cfg, tmp_path, stage, offload):
    plain = two.run(saved_and_continued, cfg(f"learner.zero_stage={stage}"), BATCHES[:1], BATCHES[1:], str(tmp_path / "plain"))
    make = (f"learner.zero_stage={stage}", f"learner.cpu_offload={offload}")
    ours = two.run(saved_and_continued, cfg(*make), BATCHES[:1], BATCHES[1:], str(tmp_path / "ours"))
    resumed = two.run(loaded_and_continued, cfg(*make), BATCHES[1:], str(tmp_path / "ours"))
    for rank in (0, 1):
        for name, tensor in ours[rank].weights.items():
            torch.testing.assert_close(tensor, plain[rank].weights[name], atol=1e-6, rtol=0)
        assert_equal(resumed[rank].weights, ours[rank].weights)
