"""One rank of the learner on real DeepSpeed, ZeRO 0 to 3, against plain torch on a tiny random Qwen2."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.learner_ranks import assert_close, assert_equal, gradients, saved_tensors
from tests.support.text_learner import (
    ADVANTAGES,
    ROWS,
    Plain,
    batch_written,
    entropy,
    logprobs_and_entropies,
    plans,
    published_then_trained,
    rollouts,
    trained,
    trained_and_saved,
)
from uec.config.schema import LearnerConfig
from uec.models.update import learning_rate
from uec.types import Continuation, UpdatePlan


def test_the_learning_rate_warms_up_linearly_and_stays():
    settings = LearnerConfig(lr=8.0, warmup_steps=4)
    assert [learning_rate(settings, done) for done in range(6)] == [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]
    assert learning_rate(LearnerConfig(lr=8.0), 0) == 8.0


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_the_first_step_is_the_plain_policy_gradient(one, cfg, model, tmp_path, stage):
    plain = Plain(model)
    norm = plain.step(plain.policy_gradient(ROWS, ADVANTAGES))
    [ours] = one.run(trained_and_saved, cfg(f"learner.zero_stage={stage}"), [(plans(ROWS, ADVANTAGES), ROWS)], str(tmp_path))
    assert_close(gradients(tmp_path), {name: parameter.grad.flatten() for name, parameter in plain.hf.named_parameters()}, atol=1e-6)
    [metrics] = ours.metrics
    assert metrics["policy/ratio_mean"] == pytest.approx(1, abs=1e-7)
    assert metrics["policy/clip_frac"] == 0
    assert metrics["policy/grad_norm"] == pytest.approx(norm, rel=1e-5)
    tokens = [len(row.tokens) for row in ROWS]
    assert metrics["policy/loss"] == pytest.approx(-np.dot(tokens, ADVANTAGES) / sum(tokens), rel=1e-5)
    assert_close(ours.weights, plain.weights(), atol=5e-6)


@pytest.mark.e2e
def test_metrics_are_those_of_plain_torch(one, cfg, model):
    plain = Plain(model)
    [ours] = one.run(trained, cfg(), [(plans(ROWS, ADVANTAGES, budget=60), ROWS)])
    [metrics] = ours.metrics
    logprobs = [values.double().numpy() for values in plain.detached(ROWS)]
    spread = np.repeat(ADVANTAGES, [len(values) for values in logprobs])
    assert metrics["policy/entropy_cov"] == pytest.approx(np.cov(np.concatenate(logprobs), spread, bias=True)[0, 1], abs=1e-5)
    assert metrics["learner/rows"] == 12
    assert metrics["learner/tokens"] == sum(len(row.prompt_tokens) + len(row.tokens) for row in ROWS)
    assert metrics["learner/padding_frac"] == 0  # packed
    assert metrics["learner/micro_batches"] > 1
    assert metrics["policy/lr"] == 2e-4
    assert "policy/kl" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.e2e
def test_gradients_are_clipped_to_their_largest_norm(one, cfg, model):
    plain = Plain(model, clip=0.01)
    norm = plain.step(plain.policy_gradient(ROWS, ADVANTAGES))
    assert norm > 0.01
    for stage in (0, 1):
        batches = [(plans(ROWS, ADVANTAGES), ROWS)]
        [ours] = one.run(trained, cfg("learner.grad_clip=0.01", f"learner.zero_stage={stage}"), batches)
        assert ours.metrics[0]["policy/grad_norm"] == pytest.approx(norm, rel=1e-5)  # before clipping
        assert_close(ours.weights, plain.weights(), atol=1e-5)


@pytest.mark.e2e
def test_several_optimizer_steps_share_the_old_logprobs_from_before_the_first(one, cfg, model):
    plain = Plain(model, lr=1e-2)
    [share] = plans(ROWS, ADVANTAGES, steps=3, admit=True)
    old = plain.detached(ROWS)
    for step in share.steps:
        rows = [share.responses[i] for batch in step for row in batch for i in row]
        plain.step(plain.surrogate([ROWS[i] for i in rows], [ADVANTAGES[i] for i in rows], [old[i] for i in rows]))
    [ours] = one.run(trained, cfg("learner.lr=1e-2"), [([share], ROWS)])
    assert_close(ours.weights, plain.weights(), atol=2e-4)  # a fiftieth of a step
    assert ours.metrics[0]["policy/clip_frac"] > 0
    assert ours.metrics[0]["learner/optimizer_steps"] == 3
    assert sorted(ours.old[0]) == list(range(12))
    for i, number in enumerate(share.responses):
        np.testing.assert_allclose(ours.old[0][i], old[number], atol=1e-5)


@pytest.mark.e2e
def test_old_logprobs_stored_with_a_rollout_are_used(one, cfg, model):
    plain = Plain(model)
    # Half of the policy's probability: with A > 0 a ratio of 2 is clipped, so these rows give no gradient.
    old = plain.detached(ROWS)
    clipped = [replace(row, old_logprobs=old_T.numpy() - np.float32(math.log(2))) for row, old_T in zip(ROWS, old, strict=True)]
    rows, advantages = [*clipped[:6], *ROWS[6:]], [1.0] * 12
    old = [torch.from_numpy(r.old_logprobs) if r.old_logprobs is not None else v for r, v in zip(rows, plain.detached(rows), strict=True)]
    plain.step(plain.surrogate(rows, advantages, old))
    [ours] = one.run(trained, cfg(), [(plans(rows, advantages), rows)])
    tokens = np.array([len(row.tokens) for row in rows])
    assert ours.metrics[0]["policy/clip_frac"] == pytest.approx(tokens[:6].sum() / tokens.sum())
    assert ours.metrics[0]["policy/ratio_mean"] == pytest.approx((2 * tokens[:6].sum() + tokens[6:].sum()) / tokens.sum(), rel=1e-5)
    assert_close(ours.weights, plain.weights(), atol=5e-6)


@pytest.mark.e2e
def test_a_single_step_returns_old_logprobs_of_admitted_samples_only(one, cfg, model):
    [share] = plans(ROWS, ADVANTAGES)
    admitted = frozenset(i for i, number in enumerate(share.responses) if number in (2, 5))
    [ours] = one.run(trained, cfg(), [([replace(share, admitted=admitted)], ROWS)])
    old = Plain(model).detached(ROWS)
    assert ours.old[0].keys() == admitted
    for i, values in ours.old[0].items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, old[share.responses[i]], atol=1e-5)


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [3])
def test_the_kl_to_the_initial_model_is_zero_at_first_and_then_pulls_back(one, cfg, model, stage):
    batches = [(plans(ROWS, ADVANTAGES), ROWS)] * 3
    [free] = one.run(trained, cfg(f"learner.zero_stage={stage}"), batches)
    [held] = one.run(trained, cfg(f"learner.zero_stage={stage}", "loss.kl_coef=100"), batches)
    kl = [metrics["policy/kl"] for metrics in held.metrics]
    assert kl[0] == pytest.approx(0, abs=1e-9)
    assert 0 < kl[1]
    moved = [sum(float((after.weights[n] - w).norm()) ** 2 for n, w in Plain(model).weights().items()) for after in (free, held)]
    assert moved[1] < 0.5 * moved[0]


@pytest.mark.e2e
def test_the_gap_to_the_engine_is_taken_at_the_sampling_temperature(one, cfg, model):
    plain = Plain(model)
    with torch.no_grad():
        engine = [plain.logprobs(row, 1.2).numpy() for row in ROWS]
    engine[3] = engine[3] + np.float32([0.25] + [0] * (len(engine[3]) - 1))
    rows = [replace(row, temperature=1.2, logprobs=logprobs, versions=(7,)) for row, logprobs in zip(ROWS, engine, strict=True)]
    stale = rollouts(3, seed=4, versions=(6,))  # sampled by other weights, so not compared
    everything = [*rows, *stale]
    share = plans(everything, [*ADVANTAGES, 1, 1, 1])
    [ours] = one.run(published_then_trained, cfg(), [(share, everything)] * 2)
    first, second = ours.metrics
    assert first["policy/rollout_logprob_gap_max"] == pytest.approx(0.25, abs=1e-4)
    assert first["policy/rollout_logprob_gap_mean"] == pytest.approx(0.25 / sum(len(r.tokens) for r in rows), abs=1e-4)
    # The policy has changed and the engines still hold version 7, so nothing is compared.
    assert "policy/rollout_logprob_gap_max" not in second
    two_steps = plans(everything, [*ADVANTAGES, 1, 1, 1], steps=2)
    [split] = one.run(published_then_trained, cfg("learner.lr=1e-2"), [(two_steps, everything)])
    for name in ("policy/rollout_logprob_gap_max", "policy/rollout_logprob_gap_mean"):  # taken before the first step moves the weights
        assert split.metrics[0][name] == pytest.approx(first[name], abs=1e-5)
    [cut] = one.run(published_then_trained, cfg("rollout.top_p=0.9"), [(share, everything)])
    assert "policy/rollout_logprob_gap_mean" not in cut.metrics[0]


@pytest.mark.e2e
def test_a_plan_without_rows_changes_nothing(one, cfg, model):
    [ours] = one.run(trained, cfg(), [([UpdatePlan([], [], [], [])], [])])
    assert (ours.metrics, ours.old) == ([{}], [{}])
    assert_equal(ours.weights, Plain(model).weights())


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [0, 1, 3])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_not_finite_leaves_weights_and_moments_bit_for_bit(one, cfg, tmp_path, stage, bad):
    good, broken = plans(ROWS, ADVANTAGES, budget=60), plans(ROWS, [*ADVANTAGES[:-1], bad], budget=60)
    settings = cfg(f"learner.zero_stage={stage}", "learner.warmup_steps=3")
    [plain] = one.run(trained_and_saved, settings, [(good, ROWS), (good, ROWS)], str(tmp_path / "plain"))
    [ours] = one.run(trained_and_saved, settings, [(good, ROWS), (broken, ROWS), (good, ROWS)], str(tmp_path / "ours"))
    assert [metrics["learner/skipped_steps"] for metrics in ours.metrics] == [0, 1, 0]
    assert [metrics["learner/optimizer_steps"] for metrics in ours.metrics] == [1, 0, 1]
    assert "policy/grad_norm" not in ours.metrics[1]
    assert ours.metrics[2]["policy/lr"] == plain.metrics[1]["policy/lr"]  # a step that was left out does not warm up
    assert_equal(ours.weights, plain.weights)
    for kind in ("weight", "exp_avg", "exp_avg_sq"):
        assert_equal(saved_tensors(tmp_path / "ours", kind), saved_tensors(tmp_path / "plain", kind))


@pytest.mark.e2e
def test_of_several_optimizer_steps_only_the_bad_one_is_left_out(one, cfg, tmp_path):
    [share] = plans(ROWS, ADVANTAGES, steps=3)
    second = share.responses.index(next(share.responses[i] for batch in share.steps[1] for row in batch for i in row))
    advantages = [math.nan if i == second else value for i, value in enumerate(share.advantages)]
    [ours] = one.run(batch_written, cfg(), replace(share, advantages=advantages), ROWS, str(tmp_path / "step" / "rank.jsonl"))
    assert (ours["learner/optimizer_steps"], ours["learner/skipped_steps"]) == (2, 1)
    lines = [json.loads(line) for line in (tmp_path / "step" / "rank.jsonl").read_text().splitlines()]
    assert [line["advantage"] for line in lines] == ["nan" if math.isnan(value) else value for value in advantages]
    assert [line["tokens"] for line in lines] == [ROWS[number].tokens.tolist() for number in share.responses]
    assert lines[0]["text"] == " ".join(f"w{token}" for token in lines[0]["tokens"])


@pytest.mark.e2e
def test_logprobs_and_entropy_are_those_of_plain_transformers(one, cfg, model):
    plain = Plain(model)
    sequences = [Continuation(row.prompt, row.prompt_tokens, row.tokens) for row in ROWS]
    [(logprobs, entropies)] = one.run(logprobs_and_entropies, cfg(), sequences)
    for ours, theirs in zip(logprobs, plain.detached(ROWS), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    [mean] = one.run(entropy, cfg(), plans(ROWS, [0.0] * 12, budget=50), ROWS)
    assert mean == pytest.approx(np.concatenate(entropies).mean(), rel=1e-5)
