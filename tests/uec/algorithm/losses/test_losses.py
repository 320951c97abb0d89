"""Policy losses and aggregations: cases to check with a pencil, and what they all are on the first optimizer step."""

import math

import pytest
import torch

from tests.support.token_batches import OLD, by_ratio, doubles, drawn, gradient
from uec.algorithm.losses.objective import StepSize, objective, token_weights
from uec.algorithm.losses.policy import cispo, clip_cov, gspo, kl_cov, ppo_clip
from uec.algorithm.losses.token_batch import LOG_RATIO_MAX, TokenBatch
from uec.config.schema import LossConfig

AGGREGATIONS = ("token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm")


def one_token(ratio: float, advantage: float, **settings):
    """Loss, its derivative by log pi, and the metrics of a token with that ratio, under ppo_clip."""
    batch = by_ratio([ratio], [advantage])
    loss_N, metrics = ppo_clip(batch, LossConfig(**settings))
    return loss_N.item(), gradient(loss_N, batch)[0], {name: value.item() for name, value in metrics.items()}


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope", "clipped"),
    [
        # J = min(rho A, clip(rho, .8, 1.2) A); inside the range d(-J)/d(log pi) = -rho A, clipped 0
        (1.0, 2.0, -2.0, -2.0, 0),
        (1.1, 1.0, -1.1, -1.1, 0),
        (1.5, 1.0, -1.2, 0.0, 1),
        (0.5, 1.0, -0.5, -0.5, 0),  # a good token that became unlikely is still pushed up
        (0.5, -1.0, 0.8, 0.0, 1),
        (1.5, -1.0, 1.5, 1.5, 0),  # a bad token that became likely is still pushed down
        (1.5, 0.0, 0.0, 0.0, 0),
    ],
)
def test_the_clipped_surrogate_of_one_token(ratio, advantage, loss, slope, clipped) -> None:
    value, grad, metrics = one_token(ratio, advantage)
    assert value == pytest.approx(loss) and grad == pytest.approx(slope)
    assert metrics == {"ratio_mean": pytest.approx(ratio), "clip_frac": clipped, "dual_clip_frac": 0}


def test_a_higher_upper_clip_range_lets_the_ratio_grow_further() -> None:
    assert one_token(1.5, 1.0, clip_high=0.28)[0] == pytest.approx(-1.28)
    assert one_token(1.25, 1.0, clip_high=0.28)[1] == pytest.approx(-1.25)  # with .2 it would be 0
    assert one_token(0.75, -1.0, clip_high=0.28)[0] == pytest.approx(0.8)  # the lower range stays


def test_the_dual_clip_bounds_the_loss_of_a_bad_token() -> None:
    value, grad, metrics = one_token(5.0, -2.0)  # 5 * 2 = 10 is cut to c * 2 = 6
    assert value == pytest.approx(6.0) and grad == 0.0 and metrics["dual_clip_frac"] == 1 and metrics["clip_frac"] == 0
    value, grad, metrics = one_token(5.0, -2.0, dual_clip=None)
    assert value == pytest.approx(10.0) and grad == pytest.approx(10.0) and metrics["dual_clip_frac"] == 0
    assert one_token(2.9, -2.0)[1] == pytest.approx(5.8)  # below c nothing is cut
    assert one_token(5.0, 2.0)[0] == pytest.approx(-2.4)  # A > 0: no dual clip, 1.2 * 2


def test_a_huge_log_ratio_stays_finite() -> None:
    for advantage in (1.0, -1.0):
        logprobs_N = torch.tensor([-0.1, -200.0], requires_grad=True)
        batch = TokenBatch(logprobs_N, torch.tensor([-200.0, -0.1]), torch.full((2,), advantage), torch.tensor([0, 1]), 2)
        for policy_loss in (ppo_clip, gspo, cispo, clip_cov, kl_cov):
            loss_N, metrics = policy_loss(batch, LossConfig(dual_clip=None))
            assert torch.isfinite(loss_N).all() and all(map(math.isfinite, gradient(loss_N, batch)))
            assert metrics["ratio_mean"].item() <= 2 * math.exp(LOG_RATIO_MAX) * 1.001


def test_gspo_takes_the_geometric_mean_of_a_responses_ratios() -> None:
    # Response 1: ratios 1.21 and 1, s = sqrt(1.21) = 1.1, inside .8 to 1.2: loss -s A = -1.1 at both tokens.
    # ds / d(log pi_t) = s / 2, and both tokens' losses hold s: slope -2 * 1.1 / 2 = -1.1 each.
    # Response 2: ratios 1.44 and 1.21, s = sqrt(1.44 * 1.21) = 1.2 * 1.1 = 1.32: clipped to 1.2, A = 2: -2.4, slope 0.
    # Response 3: one token, 1.5, A = -1: not clipped on that side: 1.5.
    batch = by_ratio([1.21, 1.0, 1.44, 1.21, 1.5], [1.0, 1.0, 2.0, 2.0, -1.0], [2, 2, 1])
    loss_N, metrics = gspo(batch, LossConfig(dual_clip=None))
    assert loss_N.tolist() == pytest.approx([-1.1, -1.1, -2.4, -2.4, 1.5])
    assert gradient(loss_N, batch) == pytest.approx([-1.1, -1.1, 0.0, 0.0, 1.5])
    assert metrics["clip_frac"] == 2 and metrics["ratio_mean"].item() == pytest.approx(2 * 1.1 + 2 * 1.32 + 1.5)


def test_ratios_that_cancel_in_a_response_are_no_change_to_gspo() -> None:
    # 2 * .5 = 1: s = 1, though each token alone would be clipped
    batch = by_ratio([2.0, 0.5], [1.0, 1.0], [2])
    loss_N, metrics = gspo(batch, LossConfig(clip_low=3e-4, clip_high=4e-4, dual_clip=None))
    assert loss_N.tolist() == pytest.approx([-1.0, -1.0]) and metrics["clip_frac"] == 0


def test_gspo_with_the_mean_of_responses_has_the_papers_gradient() -> None:
    # 1/B sum_i s_i A_i 1/|o_i| sum_t grad log pi: s = 1.1, A = 1, |o| = 2; B = 2 (the other response is empty): 1.1 / 4
    batch = by_ratio([1.21, 1.0], [1.0, 1.0], [2, 0])
    settings = LossConfig(policy="gspo", aggregation="seq-mean-token-mean", dual_clip=None)
    loss, _ = objective(batch, gspo, settings, StepSize(tokens=2, rows=2, longest=9))
    assert gradient(loss, batch) == pytest.approx([-0.275, -0.275])


@pytest.mark.parametrize(
    ("ratio", "advantage", "weight", "changed"),
    [(1.0, 2.0, 1.0, 0), (1.5, 1.0, 1.2, 1), (1.5, -1.0, 1.2, 1), (0.5, -1.0, 0.8, 1), (0.5, 1.0, 0.8, 1), (1.1, -3.0, 1.1, 0)],
)
def test_cispo_clips_the_weight_and_keeps_the_gradient(ratio, advantage, weight, changed) -> None:
    # loss -w A log pi, slope -w A: never 0, whatever side the ratio is on
    batch = by_ratio([ratio], [advantage])
    loss_N, metrics = cispo(batch, LossConfig())
    assert loss_N.item() == pytest.approx(-weight * advantage * (OLD + math.log(ratio)))
    assert gradient(loss_N, batch) == pytest.approx([-weight * advantage])
    assert metrics["clip_frac"] == changed


def test_cispo_with_clip_low_1_has_no_lower_bound() -> None:
    batch = by_ratio([0.01], [1.0])
    assert gradient(cispo(batch, LossConfig(clip_low=1.0))[0], batch) == pytest.approx([-0.01])


def test_clip_cov_takes_value_and_gradient_of_the_marked_tokens_away() -> None:
    # Token 2 is marked; token 3 is clipped by PPO at 1.2.
    batch = by_ratio([1.0, 1.1, 1.5], [1.0, 1.0, 1.0], marked_N=torch.tensor([False, True, False]))
    loss_N, metrics = clip_cov(batch, LossConfig())
    assert loss_N.tolist() == pytest.approx([-1.0, 0.0, -1.2])
    assert gradient(loss_N, batch) == pytest.approx([-1.0, 0.0, 0.0])
    assert metrics["marked_frac"] == 1 and metrics["clip_frac"] == 1


def test_kl_cov_penalises_the_marked_tokens_and_clips_none() -> None:
    # -rho A = -1.5 and -1.1 and .5; to the marked k |log rho|: + 2 log 1.5 = .810930, slope -1.5 + 2;
    # the third, marked with rho = .5: + 2 log 2 = 1.386294, slope .5 - 2
    batch = by_ratio([1.5, 1.1, 0.5], [1.0, 1.0, -1.0], marked_N=torch.tensor([True, False, True]))
    loss_N, metrics = kl_cov(batch, LossConfig(cov_kl_coef=2.0))
    assert loss_N.tolist() == pytest.approx([-0.689070, -1.1, 1.886294], abs=1e-6)
    assert gradient(loss_N, batch) == pytest.approx([0.5, -1.1, -1.5])
    assert metrics["marked_frac"] == 2 and metrics["clip_frac"] == 0 and metrics["dual_clip_frac"] == 0


def test_without_marks_clip_cov_is_ppo_clip() -> None:
    batch = by_ratio([1.0, 1.5, 0.5], [1.0, 1.0, -1.0])
    assert clip_cov(batch, LossConfig())[0].tolist() == ppo_clip(batch, LossConfig())[0].tolist()


@pytest.mark.parametrize(
    ("policy_loss", "aggregation"),
    [(ppo_clip, "token-mean"), (cispo, "token-mean"), (kl_cov, "token-mean"), (gspo, "seq-mean-token-mean")]
    + [(ppo_clip, "seq-mean-token-sum"), (cispo, "seq-mean-token-sum-norm"), (kl_cov, "seq-mean-token-mean")],
)
def test_on_the_first_step_of_a_fresh_batch_the_gradient_is_that_of_advantage_times_logprob(policy_loss, aggregation) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    targets, advantages_N = torch.tensor([0, 1, 2, 3, 4, 0]), doubles([1.5, 1.5, -0.5, -0.5, -0.5, 4.25])
    logprobs_N = logits.log_softmax(-1)[torch.arange(6), targets]
    marked_N = torch.tensor([True, False, True, False, False, False])  # the penalty of kl_cov has no gradient yet
    row_N, counts_N = torch.tensor([0, 0, 1, 1, 1, 2]), doubles([2, 2, 3, 3, 3, 1])
    batch = TokenBatch(logprobs_N, logprobs_N.detach(), advantages_N, row_N, 3, marked_N=marked_N)
    loss, metrics = objective(batch, policy_loss, LossConfig(aggregation=aggregation), StepSize(6, 3, 10))
    weights = {"token-mean": 1 / 6, "seq-mean-token-mean": 1 / (3 * counts_N), "seq-mean-token-sum": 1 / 3}
    weight_N = weights.get(aggregation, 1 / 30)
    (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-(weight_N * advantages_N * logprobs_N).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    assert metrics["clip_frac"] == 0 and metrics["ratio_mean"].item() == pytest.approx(6, abs=1e-12) and "kl" not in metrics


def test_the_four_aggregations_of_two_responses() -> None:
    # Token losses 1 | 4 4 4. Mean of tokens 13/4; mean of response means (1 + 4)/2; mean of response sums (1 + 12)/2;
    # that by the longest response, 10
    batch = by_ratio([1.0] * 4, [1.0] * 4, [1, 3])
    expected = dict(zip(AGGREGATIONS, (3.25, 2.5, 6.5, 0.65), strict=True))
    for aggregation, value in expected.items():
        weights_N = token_weights(batch, StepSize(tokens=4, rows=2, longest=10), aggregation)
        assert (weights_N * doubles([1.0, 4.0, 4.0, 4.0])).sum().item() == pytest.approx(value)
        assert not weights_N.requires_grad


def test_an_empty_response_counts_in_the_mean_of_responses_only() -> None:
    # Tokens 13/4 as before; the means of responses are over three now, times 2/3
    batch = by_ratio([1.0] * 4, [1.0] * 4, [1, 0, 3])
    expected = dict(zip(AGGREGATIONS, (3.25, 2.5 * 2 / 3, 6.5 * 2 / 3, 0.65 * 2 / 3), strict=True))
    for aggregation, value in expected.items():
        weights_N = token_weights(batch, StepSize(tokens=4, rows=3, longest=10), aggregation)
        assert (weights_N * doubles([1.0, 4.0, 4.0, 4.0])).sum().item() == pytest.approx(value)


def test_the_token_mean_is_not_the_mean_of_micro_batch_means() -> None:
    # tokens 1 | 4 4 4: (1 + 12) / 4 = 3.25; the mean of means would be (1 + 4) / 2 = 2.5
    total = 0.0
    for losses in ([1.0], [4.0, 4.0, 4.0]):
        batch = by_ratio([1.0] * len(losses), losses)
        total += (token_weights(batch, StepSize(tokens=4, rows=4, longest=1), "token-mean") * doubles(losses)).sum().item()
    assert total == 3.25


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_an_empty_micro_batch_gives_zero_with_a_gradient(aggregation: str) -> None:
    data = drawn(0, [0])
    for policy_loss in (ppo_clip, gspo, cispo, clip_cov, kl_cov):
        for size in (StepSize(7, 3, 5), StepSize(0, 0, 5)):  # the other ranks may be empty, too
            settings = LossConfig(aggregation=aggregation, kl_coef=0.1, entropy_coef=0.1)
            loss, metrics = objective(data.batch, policy_loss, settings, size)
            loss.backward()
            assert loss.item() == 0 and all(value.item() == 0 for value in metrics.values())
