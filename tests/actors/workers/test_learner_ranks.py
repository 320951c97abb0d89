"""Two ranks of the learner on real DeepSpeed against one rank and plain torch, ZeRO 0 to 3."""

import math

import pytest

from tests.support.learner_ranks import assert_close, assert_equal, gradients
from tests.support.text_learner import ADVANTAGES, ROWS, Plain, plans, rollouts, trained, trained_and_saved, trained_in_chunks


@pytest.mark.e2e
def test_two_ranks_with_two_micro_batches_give_the_gradient_of_one_batch(one, two, cfg, tmp_path):
    whole, split = plans(ROWS, ADVANTAGES), plans(ROWS, ADVANTAGES, ranks=2, budget=50)
    assert len(split[0].steps[0]) >= 2
    sizes = {sum(len(ROWS[share.responses[i]].tokens) for row in batch for i in row) for share in split for batch in share.steps[0]}
    assert len(sizes) > 1
    [alone] = one.run(trained_and_saved, cfg(), [(whole, ROWS)], str(tmp_path / "one"))
    for stage in (0, 1, 2, 3):
        folder = tmp_path / f"two-{stage}"
        both = two.run(trained_and_saved, cfg(f"learner.zero_stage={stage}"), [(split, ROWS)], str(folder))
        assert_close(gradients(folder), gradients(tmp_path / "one"), atol=1e-6)
        for ours in both:
            assert_close(ours.weights, alone.weights, atol=5e-6)
            for name in ("policy/loss", "policy/entropy", "policy/entropy_cov", "policy/grad_norm"):
                assert ours.metrics[0][name] == pytest.approx(alone.metrics[0][name], rel=1e-4)


@pytest.mark.e2e
def test_zero_stages_give_the_same_weights_after_two_steps(two, cfg, model):
    batches = [(plans(rows, ADVANTAGES, ranks=2, budget=60), rows) for rows in (rollouts(12, seed=1), rollouts(12, seed=2))]
    results = [two.run(trained, cfg(f"learner.zero_stage={stage}"), batches) for stage in (0, 1, 2, 3)]
    plain = Plain(model)
    for _, rows in batches:
        plain.step(plain.policy_gradient(rows, ADVANTAGES))
    for ranks in results:
        for ours in ranks:
            assert_close(ours.weights, plain.weights(), atol=1e-5)
            assert ours.metrics[1]["policy/grad_norm"] == pytest.approx(results[0][0].metrics[1]["policy/grad_norm"], rel=1e-5)
            assert ours.metrics[1]["learner/rows"] == 12  # over both ranks


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_loss_that_is_not_finite_on_one_rank_leaves_the_step_out_on_all(two, cfg, model, stage):
    broken = plans(ROWS, [*ADVANTAGES[:-1], math.nan], ranks=2, budget=60)
    ranks = two.run(trained, cfg(f"learner.zero_stage={stage}"), [(broken, ROWS)])
    for ours in ranks:
        assert ours.metrics[0]["learner/skipped_steps"] == 1
        assert_equal(ours.weights, Plain(model).weights())


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [1, 3])
def test_a_rank_without_rows_takes_part_and_adds_nothing(one, two, cfg, stage):
    rows, advantages = ROWS[:1], [1.5]
    [alone] = one.run(trained, cfg(), [(plans(rows, advantages), rows)])
    first, second = two.run(trained, cfg(f"learner.zero_stage={stage}"), [(plans(rows, advantages, ranks=2), rows)])
    assert_close(first.weights, alone.weights, atol=5e-6)
    assert_equal(first.weights, second.weights)
    assert first.metrics[0]["learner/rows"] == 1
    assert first.metrics[0]["policy/entropy"] == pytest.approx(alone.metrics[0]["policy/entropy"], rel=1e-5)


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [3])
def test_chunked_logits_and_checkpointed_layers_change_nothing(two, cfg, stage):
    batches = [(plans(ROWS, ADVANTAGES, ranks=2, budget=60), ROWS)] * 2
    whole, _ = two.run(trained, cfg(), batches)
    pieces, _ = two.run(trained_in_chunks, cfg(f"learner.zero_stage={stage}", "learner.gradient_checkpointing=true"), batches)
    assert_close(pieces.weights, whole.weights, atol=1e-5)
