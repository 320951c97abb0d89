"""What stands beside the policy loss: KL, entropy terms, weights of the behaviour policy, marking, and all of it put together."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.token_batches import OLD, by_ratio, doubles, drawn, gradient
from uec.algorithm.losses.objective import StepSize, objective
from uec.algorithm.losses.policy import mark, ppo_clip, token_covariance
from uec.algorithm.losses.terms import (
    behaviour_weights,
    entropy_bonus,
    kl_estimate,
    less_kl_to_go,
    truncated_weights,
    with_entropy_advantage,
)
from uec.config.schema import LossConfig

LOG2 = math.log(2)

# --- KL


@pytest.mark.parametrize(
    ("estimator", "values", "slopes"),
    [
        # d = log 2 = .693147 and -log 2
        ("k1", [0.693147, -0.693147], [1.0, 1.0]),
        ("k2", [0.240227, 0.240227], [0.693147, -0.693147]),  # d^2 / 2, slope d
        ("k3", [0.193147, 0.306853], [0.5, -1.0]),  # 1/2 - 1 + .693147 and 2 - 1 - .693147, slope 1 - exp(-d)
    ],
)
def test_kl_estimates_of_tokens_twice_and_half_as_likely_as_under_the_reference(estimator, values, slopes) -> None:
    logprobs_N = doubles([0.5, 0.25]).log().requires_grad_()
    kl_N = kl_estimate(logprobs_N, doubles([0.25, 0.5]).log(), estimator)
    assert kl_N.tolist() == pytest.approx(values, abs=1e-6)
    kl_N.sum().backward()
    assert logprobs_N.grad is not None and logprobs_N.grad.tolist() == pytest.approx(slopes, abs=1e-6)


def test_k1_and_k3_average_to_the_kl_divergence() -> None:
    # exact: sum over the vocabulary of p * estimate must be sum p log(p / q)
    p_V, q_V = doubles([0.7, 0.2, 0.1]), doubles([0.3, 0.3, 0.4])
    exact = 0.7 * math.log(7 / 3) + 0.2 * math.log(2 / 3) + 0.1 * math.log(1 / 4)
    for estimator in ("k1", "k3"):
        assert (p_V * kl_estimate(p_V.log(), q_V.log(), estimator)).sum().item() == pytest.approx(exact, abs=1e-9)


@given(st.floats(-30, 0), st.floats(-30, 0))
def test_k2_and_k3_are_never_negative(logprob: float, reference: float) -> None:
    for estimator in ("k2", "k3"):
        assert kl_estimate(doubles([logprob]), doubles([reference]), estimator).item() >= 0


def test_the_kl_to_go_ends_with_its_response() -> None:
    # Responses of 3, 0 and 2 tokens, d = 1, 2, 3 | 4, 5. To go: 6, 5, 3 | 9, 5. A = 10 less .1 of it.
    batch = by_ratio([1.0] * 5, [10.0] * 5, [3, 0, 2])
    reference_N = OLD - doubles([1.0, 2.0, 3.0, 4.0, 5.0])
    advantages_N = less_kl_to_go(batch, reference_N, LossConfig(kl_coef=0.1, kl_estimator="k1", kl_in="reward"))
    assert advantages_N.tolist() == pytest.approx([9.4, 9.5, 9.7, 9.1, 9.5])
    assert not advantages_N.requires_grad


def test_the_kl_in_the_reward_is_that_of_the_old_policy_and_stays_from_step_to_step() -> None:
    # log pi_old - log pi_ref = 1, whatever pi is by now
    for ratio in (1.0, 3.0):
        batch = by_ratio([ratio], [2.0])
        found = less_kl_to_go(batch, doubles([OLD - 1.0]), LossConfig(kl_coef=0.1, kl_estimator="k1", kl_in="reward"))
        assert found.tolist() == pytest.approx([1.9])


# --- entropy


def test_the_entropy_bonus_lowers_the_loss_by_its_coefficient() -> None:
    entropies_N = doubles([0.5, 2.0]).requires_grad_()
    bonus_N = entropy_bonus(entropies_N, LossConfig(entropy_coef=0.1))
    assert bonus_N.tolist() == pytest.approx([-0.05, -0.2])
    bonus_N.sum().backward()
    assert entropies_N.grad is not None and entropies_N.grad.tolist() == pytest.approx([-0.1, -0.1])


def test_the_entropy_advantage_is_bounded_by_a_share_of_the_advantage() -> None:
    # alpha .4, kappa 2: min(.4 * .5, 1/2) = .2; min(.4 * 5, 1/2) = .5: -1 + .5 keeps its sign; A = 0 stays 0
    entropies_N = doubles([0.5, 5.0, 2.0, 10.0]).requires_grad_()
    settings = LossConfig(entropy_advantage_alpha=0.4, entropy_advantage_kappa=2.0)
    found_N = with_entropy_advantage(doubles([1.0, -1.0, 0.0, 1.0]), entropies_N, settings)
    assert found_N.tolist() == pytest.approx([1.2, -0.5, 0.0, 1.5]) and not found_N.requires_grad


@given(st.floats(-50, 50), st.floats(0, 12), st.floats(0.01, 10), st.floats(1.01, 10))
def test_the_entropy_advantage_keeps_the_sign(advantage: float, entropy: float, alpha: float, kappa: float) -> None:
    settings = LossConfig(entropy_advantage_alpha=alpha, entropy_advantage_kappa=kappa)
    found = with_entropy_advantage(doubles([advantage]), doubles([entropy]), settings).item()
    assert found >= advantage and math.copysign(1, found) * math.copysign(1, advantage) > 0 or advantage == 0 == found


# --- the policy that sampled


def test_truncated_weights_are_ratios_up_to_the_cap() -> None:
    # .4/.2 = 2, .1/.2 = .5, .9/.1 = 9 -> cap 3; an engine that gave the token no chance at all: cap
    logprobs_N = doubles([0.4, 0.1, 0.9, 0.5]).log().requires_grad_()
    weights_N = truncated_weights(logprobs_N, doubles([0.2, 0.2, 0.1, 0.0]).log(), 3.0)
    assert weights_N.tolist() == pytest.approx([2.0, 0.5, 3.0, 3.0]) and not weights_N.requires_grad


@pytest.mark.parametrize(
    ("correction", "mismatch_cap", "is_cap", "weights"),
    [
        # Old .4, at the temperature of sampling .3, the engine's .2: ratios 2 and 1.5.
        # Tokens: at T = 1, the same replayed, at t', the same replayed (whose old log-probability at t' is not stored)
        ("none", None, 10.0, None),
        ("tempered", None, 10.0, None),
        ("none", 10.0, 10.0, [2.0, 2.0, 1.5, 1.0]),
        ("none", 1.2, 10.0, [1.2, 1.2, 1.2, 1.0]),
        ("tempered", 10.0, 10.0, [2.0, 2.0, 2.0, 2.0]),  # old log-probabilities are at t' already, the stored ones, too
        ("tempered", 1.7, 10.0, [1.7, 1.7, 1.7, 1.7]),
        ("truncated-is", None, 10.0, [1.0, 1.0, 2.0, 2.0]),  # pi at T = 1 over mu at t'
        ("truncated-is", None, 1.2, [1.0, 1.0, 1.2, 1.2]),
        ("truncated-is", 10.0, 10.0, [2.0, 2.0, 2.0, 2.0]),
        ("truncated-is", 1.7, 1.2, [1.7, 1.7, 1.2, 1.2]),  # each has its cap; the two weights are never multiplied
    ],
)
def test_which_weight_a_token_gets(correction, mismatch_cap, is_cap, weights) -> None:
    found = behaviour_weights(
        doubles([0.4] * 4).log(),
        doubles([0.3] * 4).log(),
        doubles([0.2] * 4).log(),
        torch.tensor([False, False, True, True]),
        torch.tensor([False, True, False, True]),
        correction=correction,
        mismatch_cap=mismatch_cap,
        is_cap=is_cap,
    )
    assert found is None if weights is None else found.tolist() == pytest.approx(weights)


# --- tokens of high covariance


def test_the_covariance_of_three_tokens() -> None:
    # log pi -1, -2, -3 around -2; A 3, 0, 0 around 1: 1 * 2, 0 * -1, -1 * -1
    assert token_covariance(doubles([-1.0, -2.0, -3.0]), doubles([3.0, 0.0, 0.0])).tolist() == pytest.approx([2.0, 0.0, 1.0])


def marked(covariance: list[float], seed: int = 0, **settings) -> list[int]:
    chosen_N = mark(doubles(covariance), LossConfig(**settings), torch.Generator().manual_seed(seed))
    assert chosen_N.dtype == torch.bool and len(chosen_N) == len(covariance)
    return chosen_N.nonzero().squeeze(1).tolist()


SIX = [0.5, 2.0, 5.0, 1.0, 3.0, 7.0]


def test_clip_cov_draws_from_inside_the_range_only() -> None:
    # strictly between 1 and 5: 2 and 3; .9 of six are five, more than there are
    assert marked(SIX, cov_share=0.9, cov_range=[1.0, 5.0]) == [1, 4]


def test_clip_cov_draws_its_share_of_all_tokens_at_least_one() -> None:
    # .2 * 6 = 1.2: one; 2e-4 * 6: none, so one
    for share in (0.2, 2e-4):
        draws = [marked(SIX, seed, cov_share=share, cov_range=[1.0, 5.0]) for seed in range(40)]
        assert {len(draw) for draw in draws} == {1} and {draw[0] for draw in draws} == {1, 4}
        assert 8 < draws.count([1]) < 32  # of two alike


def test_the_same_seed_draws_the_same_tokens() -> None:
    many = [1.0 + i / 100 for i in range(1, 100)]
    first, again, other = (marked(many, seed, cov_share=0.1, cov_range=[1.0, 5.0]) for seed in (3, 3, 4))
    assert first == again != other and len(first) == 9


def test_clip_cov_marks_nothing_where_the_range_is_empty() -> None:
    assert marked([0.1, -2.0, 9.0], cov_share=0.5, cov_range=[1.0, 5.0]) == []


def test_kl_cov_marks_the_highest() -> None:
    assert marked(SIX, cov_share=0.34) == [2, 5]  # .34 * 6 = 2.04
    assert marked(SIX, cov_share=2e-4) == [5]


def test_no_tokens_have_no_marks() -> None:
    assert marked([], cov_share=0.5) == [] and marked([], cov_share=0.5, cov_range=[1.0, 5.0]) == []
    assert token_covariance(doubles([]), doubles([])).tolist() == []


# --- all together

ONE = StepSize(tokens=1, rows=1, longest=4)


def test_the_parts_of_the_loss_add_up_and_only_the_policys_is_weighted() -> None:
    # weight 2 * (-rho A = -1) + .01 * k3(log 2) = .193147 - .1 * H = .6: -2 + .00193147 - .06 = -2.05806853
    more = {"reference_N": doubles([OLD - LOG2]), "entropies_N": doubles([0.6]), "behaviour_weights_N": doubles([2.0])}
    batch = by_ratio([1.0], [1.0], **more)
    loss, metrics = objective(batch, ppo_clip, LossConfig(kl_coef=0.01, entropy_coef=0.1), ONE)
    assert loss.item() == pytest.approx(-2.05806853, abs=1e-8)
    assert gradient(loss, batch) == pytest.approx([-2 + 0.01 * 0.5])  # k3's slope is 1 - 1/2
    assert set(metrics) == {"loss", "kl", "behaviour_weight", "ratio_mean", "clip_frac", "dual_clip_frac"}
    assert metrics["kl"].item() == pytest.approx(0.193147, abs=1e-6) and metrics["behaviour_weight"] == 2
    assert metrics["loss"].item() == loss.item() and not any(value.requires_grad for value in metrics.values())


def test_a_kl_in_the_reward_lowers_advantages_and_is_no_term_of_the_loss() -> None:
    # One response, d = log 2 at both tokens: A = 1 - .1 * 2 log 2 = .861371 and 1 - .1 log 2 = .930685;
    # loss -(.861371 + .930685)/2 = -.896028, slopes -A/2. The metric is the sum of d.
    batch = by_ratio([1.0, 1.0], [1.0, 1.0], [2], reference_N=doubles([OLD - LOG2] * 2))
    settings = LossConfig(kl_coef=0.1, kl_estimator="k1", kl_in="reward")
    loss, metrics = objective(batch, ppo_clip, settings, StepSize(2, 1, 4))
    assert loss.item() == pytest.approx(-0.896028, abs=1e-6)
    assert gradient(loss, batch) == pytest.approx([-0.430685, -0.465343], abs=1e-6)
    assert metrics["kl"].item() == pytest.approx(2 * LOG2)


def test_the_entropy_advantage_comes_after_the_kl_in_the_reward() -> None:
    # A = 1 - .5 * log 2 = .653426, then + min(.4 * 9, A / 2) = .326713: 1.5 A = .980140
    batch = by_ratio([1.0], [1.0], reference_N=doubles([OLD - LOG2]), entropies_N=doubles([9.0]))
    settings = LossConfig(kl_coef=0.5, kl_estimator="k1", kl_in="reward", entropy_advantage_alpha=0.4)
    loss, _ = objective(batch, ppo_clip, settings, ONE)
    assert loss.item() == pytest.approx(-0.980140, abs=1e-6)


def test_what_a_batch_lacks_or_a_coefficient_of_zero_leaves_out() -> None:
    data = drawn(5, [4, 2])
    plain = objective(drawn(5, [4, 2], parts=False).batch, ppo_clip, LossConfig(kl_coef=0.3, entropy_coef=0.3), data.size)
    assert set(plain[1]) == {"loss", "ratio_mean", "clip_frac", "dual_clip_frac"}
    assert plain[0].item() == objective(drawn(5, [4, 2], parts=False).batch, ppo_clip, LossConfig(), data.size)[0].item()
