"""GRPO's loss: hand-computed tokens, gradients, and sums that do not depend on how a batch is split."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uec.algorithm.losses import grpo, kl_k3, ppo_clip, token_mean
from uec.config import Learner


def one_token(ratio: float, advantage: float, clip_low=0.2, clip_high=0.2, dual_clip: float | None = 3.0):
    """Loss, its derivative by log pi, and the metrics of a token with that ratio."""
    logprob = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    loss, metrics = ppo_clip(
        logprob,
        torch.zeros(1, dtype=torch.float64),
        torch.tensor([advantage], dtype=torch.float64),
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
    )
    loss.sum().backward()
    assert logprob.grad is not None
    return loss.item(), logprob.grad.item(), {name: value.item() for name, value in metrics.items()}


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "clipped"),
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
def test_the_clipped_surrogate_of_one_token(ratio, advantage, loss, gradient, clipped) -> None:
    value, grad, metrics = one_token(ratio, advantage)
    assert value == pytest.approx(loss) and grad == pytest.approx(gradient)
    assert metrics == {"ratio_mean": pytest.approx(ratio), "clip_frac": clipped, "dual_clip_frac": 0}


def test_a_higher_upper_clip_range_lets_the_ratio_grow_further() -> None:
    assert one_token(1.5, 1.0, clip_high=0.28)[0] == pytest.approx(-1.28)
    assert one_token(1.25, 1.0, clip_high=0.28)[1] == pytest.approx(-1.25)


def test_the_dual_clip_bounds_the_loss_of_a_bad_token() -> None:
    value, grad, metrics = one_token(5.0, -2.0)  # 5 * 2 = 10 is cut to c * 2 = 6
    assert value == pytest.approx(6.0) and grad == 0.0 and metrics["dual_clip_frac"] == 1
    value, grad, metrics = one_token(5.0, -2.0, dual_clip=None)
    assert value == pytest.approx(10.0) and grad == pytest.approx(10.0) and metrics["dual_clip_frac"] == 0
    assert one_token(5.0, 2.0)[0] == pytest.approx(-2.4)  # A > 0: no dual clip, 1.2 * 2


def test_a_huge_log_ratio_stays_finite() -> None:
    for advantage in (1.0, -1.0):
        logprobs = torch.tensor([-0.1, -200.0], requires_grad=True)
        loss, _ = grpo(logprobs, torch.tensor([-200.0, -0.1]), torch.full((2,), advantage), torch.tensor([-300.0, 0.0]), Learner(), 2)
        loss.backward()
        assert torch.isfinite(loss) and logprobs.grad is not None and torch.isfinite(logprobs.grad).all()


def test_on_the_first_step_of_a_fresh_batch_the_gradient_is_that_of_advantage_times_logprob() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    targets, advantages = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([1.5, 1.5, -0.5, -0.5, -0.5, 4.25], dtype=torch.float64)
    logprobs = logits.log_softmax(-1)[torch.arange(6), targets]
    loss, metrics = grpo(logprobs, logprobs.detach(), advantages, None, Learner(), 6)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-(advantages * logprobs).mean(), logits)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-14)
    assert metrics["clip_frac"] == 0 and metrics["ratio_mean"] == 6 and "kl" not in metrics


def test_k3_of_a_token_twice_as_likely_as_under_the_reference() -> None:
    # d = log 2: exp(-d) - 1 + d = .5 - 1 + .693147 = .193147; d = -log 2: 2 - 1 - .693147 = .306853; derivative 1 - exp(-d)
    logprobs = torch.tensor([math.log(0.5), math.log(0.25)], requires_grad=True)
    kl = kl_k3(logprobs, torch.tensor([math.log(0.25), math.log(0.5)]))
    torch.testing.assert_close(kl.detach(), torch.tensor([0.193147, 0.306853]), atol=1e-6, rtol=0)
    kl.sum().backward()
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, torch.tensor([0.5, -1.0]))


def test_k3_averages_to_the_kl_divergence() -> None:
    # exact: sum over the vocabulary of p * k3 must be sum p log(p / q)
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    exact = 0.7 * math.log(7 / 3) + 0.2 * math.log(2 / 3) + 0.1 * math.log(1 / 4)
    assert (p * kl_k3(p.log(), q.log())).sum().item() == pytest.approx(exact, abs=1e-6)


def test_the_kl_term_enters_with_its_coefficient() -> None:
    logprobs, ref = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.25)])
    loss, metrics = grpo(logprobs, logprobs, torch.tensor([1.0]), ref, Learner(kl_coef=0.01), 1)
    assert loss.item() == pytest.approx(-1 + 0.01 * 0.193147, abs=1e-7)
    assert metrics["kl"].item() == pytest.approx(0.193147, abs=1e-6)
    assert metrics["loss"].item() == pytest.approx(loss.item())


def test_the_token_mean_is_not_the_mean_of_micro_batch_means() -> None:
    # tokens 1 | 4 4 4: (1 + 12) / 4 = 3.25; the mean of means would be (1 + 4) / 2 = 2.5
    parts = [torch.tensor([1.0]), torch.tensor([4.0, 4.0, 4.0])]
    assert sum(token_mean(part, 4).item() for part in parts) == 3.25


def test_an_empty_micro_batch_gives_zero_with_a_gradient() -> None:
    logprobs = torch.zeros(0, requires_grad=True)
    loss, metrics = grpo(logprobs, torch.zeros(0), torch.zeros(0), torch.zeros(0), Learner(kl_coef=0.1), 7)
    loss.backward()
    assert loss.item() == 0 and all(value.item() == 0 for value in metrics.values())


def batch(tokens: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Features, old and reference log-probabilities, and advantages with ratios on both sides of the clip range."""
    torch.manual_seed(seed)
    return torch.randn(tokens, 4), torch.randn(tokens) * 0.3, torch.randn(tokens) * 0.3, torch.randn(tokens)


def loss_gradient_and_sums(indices: list[torch.Tensor], data: tuple[torch.Tensor, ...], total: int):
    """What ranks and micro-batches add up to, each having only its own tokens."""
    weight = torch.full((4,), 0.1, requires_grad=True)
    features, old, ref, advantages = data
    loss_sum, sums = 0.0, dict.fromkeys(("loss", "kl", "clip_frac", "dual_clip_frac", "ratio_mean"), 0.0)
    for index in indices:
        loss, metrics = grpo(features[index] @ weight, old[index], advantages[index], ref[index], Learner(kl_coef=0.05), total)
        loss.backward()
        loss_sum += loss.item()
        sums = {name: sums[name] + metrics[name].item() for name in sums}
    return loss_sum, weight.grad, sums


def test_two_ranks_with_two_unequal_micro_batches_give_one_rank_with_one_batch() -> None:
    data, everything = batch(100, 0), torch.arange(100)
    whole = loss_gradient_and_sums([everything], data, 100)
    split = loss_gradient_and_sums(list(everything.split([7, 41, 3, 49])), data, 100)
    assert split[0] == pytest.approx(whole[0], abs=1e-6)
    torch.testing.assert_close(split[1], whole[1], rtol=0, atol=1e-6)
    assert split[2] == pytest.approx(whole[2], abs=1e-4)
    assert whole[2]["clip_frac"] > 10  # the case is not trivial


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(0, 1000), st.lists(st.integers(0, 60), max_size=5), st.randoms(use_true_random=False))
def test_any_split_in_any_order_gives_the_same(tokens: int, seed: int, cuts: list[int], random) -> None:
    order = list(range(tokens))
    random.shuffle(order)
    bounds = sorted([0, *(min(c, tokens) for c in cuts), tokens])
    pieces = [torch.tensor(order[a:b], dtype=torch.long) for a, b in zip(bounds, bounds[1:], strict=False)]
    data = batch(tokens, seed)
    whole = loss_gradient_and_sums([torch.arange(tokens)], data, tokens)
    split = loss_gradient_and_sums(pieces, data, tokens)
    torch.testing.assert_close(split[1], whole[1], rtol=1e-5, atol=1e-6)
    assert split[2] == pytest.approx(whole[2], rel=1e-5, abs=1e-4)
