"""What holds for every policy loss with every aggregation, whatever the batch looks like."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.token_batches import drawn, shares
from uec.algorithm.losses.objective import StepSize, objective
from uec.algorithm.losses.policy import BUILTIN
from uec.algorithm.losses.token_batch import TokenBatch
from uec.config.schema import LossConfig

AGGREGATIONS = ("token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm")
EVERY = [(policy, aggregation) for policy in BUILTIN for aggregation in AGGREGATIONS]
PLAIN: dict[str, float | str] = {}
IN_LOSS: dict[str, float | str] = {"kl_coef": 0.05, "entropy_coef": 0.02}
IN_ADVANTAGE: dict[str, float | str] = {"kl_coef": 0.05, "kl_in": "reward", "kl_estimator": "k1", "entropy_advantage_alpha": 0.4}

counts = st.lists(st.integers(0, 6), min_size=1, max_size=7)
parts = st.sampled_from([PLAIN, IN_LOSS, IN_ADVANTAGE])


@pytest.mark.parametrize(("policy", "aggregation"), EVERY)
@settings(max_examples=12)
@given(counts, st.integers(0, 10**6), parts, st.lists(st.integers(0, 7), max_size=4), st.randoms(use_true_random=False))
def test_shares_of_micro_batches_and_ranks_add_up_to_the_whole_in_any_order(policy, aggregation, counts, seed, parts, cuts, random) -> None:
    order = list(range(len(counts)))
    random.shuffle(order)
    bounds = sorted([0, *(min(cut, len(order)) for cut in cuts), len(order)])
    split = [order[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]  # some of them empty
    data, section = drawn(seed, counts), LossConfig(policy=policy, aggregation=aggregation, **parts)
    whole = shares(data, [list(range(len(counts)))], BUILTIN[policy], section)
    found = shares(data, split, BUILTIN[policy], section)
    assert found[0] == pytest.approx(whole[0], rel=1e-9, abs=1e-9)
    torch.testing.assert_close(found[1], whole[1], rtol=1e-9, atol=1e-9)
    assert found[2] == pytest.approx(whole[2], rel=1e-9, abs=1e-9)


def test_the_drawn_batches_reach_every_branch() -> None:
    data = drawn(3, [6] * 7)
    sums = shares(data, [list(range(7))], BUILTIN["ppo_clip"], LossConfig())[2]
    assert sums["clip_frac"] > 5 and sums["dual_clip_frac"] > 0
    assert shares(data, [list(range(7))], BUILTIN["kl_cov"], LossConfig())[2]["marked_frac"] > 5
    narrow = LossConfig(clip_low=0.2, clip_high=0.2, dual_clip=None)
    assert 0 < shares(data, [list(range(7))], BUILTIN["gspo"], narrow)[2]["clip_frac"] < 42


def test_two_ranks_with_two_unequal_micro_batches_give_one_rank_with_one_batch_in_float32() -> None:
    torch.manual_seed(0)
    features, old_N, reference_N, advantages_N = torch.randn(100, 4), torch.randn(100) * 0.3, torch.randn(100) * 0.3, torch.randn(100)

    def summed(pieces: list[torch.Tensor]):
        weight = torch.full((4,), 0.1, requires_grad=True)
        for index in pieces:
            rows = torch.arange(len(index))
            batch = TokenBatch(
                features[index] @ weight, old_N[index], advantages_N[index], rows, len(index), reference_N=reference_N[index]
            )
            objective(batch, BUILTIN["ppo_clip"], LossConfig(kl_coef=0.05), StepSize(100, 100, 100))[0].backward()
        return weight.grad

    everything = torch.arange(100)
    torch.testing.assert_close(summed(list(everything.split([7, 41, 3, 49]))), summed([everything]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("policy", "aggregation"), EVERY)
@settings(max_examples=12)
@given(counts, st.integers(0, 10**6), parts, st.booleans())
def test_loss_and_gradient_are_finite_even_where_log_probabilities_are_not(policy, aggregation, counts, seed, parts, zero) -> None:
    data = drawn(seed, counts)
    generator = torch.Generator().manual_seed(seed)
    kinds_N = torch.randint(6, data.batch.old_N.shape, generator=generator)
    old_N, reference_N, logprobs_N = (t.detach().float() for t in (data.batch.old_N, data.batch.reference_N, data.batch.logprobs_N))
    old_N = torch.where(kinds_N == 0, -torch.inf, torch.where(kinds_N == 1, -1e4, old_N))
    reference_N = torch.where(kinds_N == 2, -torch.inf, reference_N)
    logprobs_N = torch.where(kinds_N == 3, -1e4, logprobs_N).requires_grad_()
    advantages_N = data.batch.advantages_N.float() * (0 if zero else 1)
    batch = TokenBatch(
        logprobs_N, old_N, advantages_N, data.batch.row_N, data.batch.rows, data.batch.entropies_N, reference_N,
        data.batch.behaviour_weights_N, data.batch.marked_N,
    )  # fmt: skip
    section = LossConfig(policy=policy, aggregation=aggregation, **parts)
    loss, metrics = objective(batch, BUILTIN[policy], section, data.size)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logprobs_N.grad).all()
    assert all(math.isfinite(value.item()) for value in metrics.values())


@pytest.mark.parametrize(("policy", "aggregation"), EVERY)
def test_advantages_of_zero_have_neither_loss_nor_gradient(policy, aggregation) -> None:
    data = drawn(1, [3, 0, 4])
    batch = TokenBatch(data.batch.logprobs_N, data.batch.old_N, torch.zeros(7, dtype=torch.float64), data.batch.row_N, 3)
    loss, _ = objective(batch, BUILTIN[policy], LossConfig(policy=policy, aggregation=aggregation), data.size)
    loss.backward()
    assert loss.item() == 0 and not data.batch.logprobs_N.grad.any()
