"""Micro-batches by token budget: every row once, budget kept, ranks in step and balanced."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from uec.models.packing import Share, plan

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60)), max_size=80)


def batches(share: Share) -> list[list[int]]:
    """Rows of the whole batch in each of a rank's micro-batches."""
    return [[share.rows[i] for i in batch] for step in share.steps for batch in step]


@given(rows=LENGTHS, ranks=st.integers(1, 4), budget=st.integers(1, 400), steps=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_row_is_forwarded_exactly_once(rows, ranks, budget, steps, seed):
    shares = plan([p + r for p, r in rows], [r for _, r in rows], ranks, budget, steps, seed)
    assert sorted(row for share in shares for batch in batches(share) for row in batch) == list(range(len(rows)))
    for share in shares:
        assert sorted(i for step in share.steps for batch in step for i in batch) == list(range(len(share.rows)))


@given(rows=LENGTHS, ranks=st.integers(1, 4), budget=st.integers(1, 400), steps=st.integers(1, 5), seed=st.integers(0, 9))
def test_all_ranks_run_the_same_number_of_micro_batches(rows, ranks, budget, steps, seed):
    shares = plan([p + r for p, r in rows], [r for _, r in rows], ranks, budget, steps, seed)
    assert len(shares) == ranks
    assert len({tuple(len(step) for step in share.steps) for share in shares}) == 1
    assert len(shares[0].steps) == min(steps, len(rows))
    assert all(len(step) >= 1 for step in shares[0].steps)


@given(rows=LENGTHS, ranks=st.integers(1, 4), budget=st.integers(1, 400), steps=st.integers(1, 5), seed=st.integers(0, 9))
def test_only_a_row_that_is_too_long_by_itself_exceeds_the_budget(rows, ranks, budget, steps, seed):
    lengths = [p + r for p, r in rows]
    for share in plan(lengths, [r for _, r in rows], ranks, budget, steps, seed):
        for batch in batches(share):
            if len(batch) > 1:
                assert len(batch) * max(lengths[row] for row in batch) <= budget


@given(rows=LENGTHS, ranks=st.integers(1, 4), budget=st.integers(1, 400), steps=st.integers(1, 5), seed=st.integers(0, 9))
def test_tokens_count_the_responses_of_a_step_over_all_ranks(rows, ranks, budget, steps, seed):
    responses = [r for _, r in rows]
    shares = plan([p + r for p, r in rows], responses, ranks, budget, steps, seed)
    for k, tokens in enumerate(shares[0].tokens):
        assert tokens == sum(responses[share.rows[i]] for share in shares for batch in share.steps[k] for i in batch)
    assert all(share.tokens == shares[0].tokens for share in shares)


def test_rows_of_like_length_share_a_micro_batch():
    # 8 + 8 + 8 and 2 + 2 + 2 fit into 24 tokens without padding; dealt out as they come, 8 tokens would stand beside 2.
    [share] = plan([8, 2, 8, 2, 8, 2], [1] * 6, ranks=1, micro_batch_tokens=24, optimizer_steps=1, seed=0)
    assert [sorted(batch) for batch in batches(share)] == [[0, 2, 4], [1, 3, 5]]
    assert (share.tokens, share.counts) == ([6], [6])


def test_a_row_longer_than_the_budget_has_a_micro_batch_of_its_own():
    [share] = plan([100, 5, 5], [50, 2, 2], ranks=1, micro_batch_tokens=10, optimizer_steps=1, seed=0)
    assert [sorted(batch) for batch in batches(share)] == [[0], [1, 2]]


def test_what_fits_into_one_micro_batch_is_still_shared_among_the_ranks():
    shares = plan([10] * 8, [4] * 8, ranks=2, micro_batch_tokens=1000, optimizer_steps=1, seed=0)
    assert [len(share.rows) for share in shares] == [4, 4]


def test_a_rank_without_rows_gets_an_empty_micro_batch():
    shares = plan([10], [4], ranks=3, micro_batch_tokens=1000, optimizer_steps=1, seed=0)
    assert [share.steps for share in shares] == [[[[0]]], [[[]]], [[[]]]]
    assert all((share.tokens, share.counts) == ([4], [1]) for share in shares)


def test_no_rows_give_a_plan_without_steps():
    assert plan([], [], ranks=2, micro_batch_tokens=10, optimizer_steps=3, seed=0) == [Share([], [], [], []), Share([], [], [], [])]


def test_ranks_carry_about_equal_loads():
    lengths = np.random.default_rng(1).integers(10, 500, 600).tolist()
    shares = plan(lengths, lengths, ranks=4, micro_batch_tokens=4096, optimizer_steps=1, seed=0)
    loads = [sum(len(batch) * max(lengths[row] for row in batch) for batch in batches(share)) for share in shares]
    assert max(loads) <= 1.02 * min(loads)
    assert sum(loads) <= 1.05 * sum(lengths)  # padding included


def test_optimizer_steps_get_random_rows_of_like_lengths():
    lengths = list(range(1, 41))
    [share] = plan(lengths, lengths, ranks=1, micro_batch_tokens=10_000, optimizer_steps=4, seed=0)
    # Of each four rows next in length every step has one, so totals differ by at most 3 for each of the 10.
    assert [len(step[0]) for step in share.steps] == [10, 10, 10, 10]
    assert max(share.tokens) - min(share.tokens) <= 30
    rows = [{share.rows[i] for i in step[0]} for step in share.steps]
    [other] = plan(lengths, lengths, ranks=1, micro_batch_tokens=10_000, optimizer_steps=4, seed=1)
    [again] = plan(lengths, lengths, ranks=1, micro_batch_tokens=10_000, optimizer_steps=4, seed=0)
    assert again == share
    assert [{other.rows[i] for i in step[0]} for step in other.steps] != rows


def test_micro_batches_are_no_more_than_the_budget_asks_for():
    lengths = [7] * 100
    [share] = plan(lengths, lengths, ranks=1, micro_batch_tokens=70, optimizer_steps=1, seed=0)
    assert len(share.steps[0]) == math.ceil(100 / (70 // 7))
