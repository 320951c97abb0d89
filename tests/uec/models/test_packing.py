"""Micro-batches by token budget: each row once, within the budget, and balanced over ranks."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from uec.models.packing import Length, plan, rows_of
from uec.types import UpdatePlan

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60)), max_size=80)


def apart(lengths: list[int], responses: list[int]) -> list[Length]:
    """Return responses of these lengths, prompt included, to different prompts."""
    return [Length(number, length - response, response) for number, (length, response) in enumerate(zip(lengths, responses, strict=True))]


def batches(share: UpdatePlan) -> list[list[int]]:
    """Return the responses, numbered in the whole batch, in each of a rank's micro-batches."""
    return [[share.responses[i] for row in batch for i in row] for step in share.steps for batch in step]


@given(rows=LENGTHS, ranks=st.integers(1, 4), budget=st.integers(1, 400), steps=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_row_is_forwarded_exactly_once(rows, ranks, budget, steps, seed):
    shares = plan(apart([p + r for p, r in rows], [r for _, r in rows]), ranks, budget, steps, seed)
    assert sorted(row for share in shares for batch in batches(share) for row in batch) == list(range(len(rows)))
    for share in shares:
        assert sorted(i for step in share.steps for batch in step for row in batch for i in row) == list(range(len(share.responses)))


@given(rows=LENGTHS, ranks=st.integers(1, 4), budget=st.integers(1, 400), steps=st.integers(1, 5), seed=st.integers(0, 9))
def test_all_ranks_run_the_same_number_of_micro_batches(rows, ranks, budget, steps, seed):
    shares = plan(apart([p + r for p, r in rows], [r for _, r in rows]), ranks, budget, steps, seed)
    assert len(shares) == ranks
    assert len({tuple(len(step) for step in share.steps) for share in shares}) == 1
    assert len(shares[0].steps) == min(steps, len(rows))
    assert all(len(step) >= 1 for step in shares[0].steps)


@given(rows=LENGTHS, ranks=st.integers(1, 4), budget=st.integers(1, 400), steps=st.integers(1, 5), seed=st.integers(0, 9))
def test_only_a_row_that_is_too_long_by_itself_exceeds_the_budget(rows, ranks, budget, steps, seed):
    lengths = [p + r for p, r in rows]
    for share in plan(apart(lengths, [r for _, r in rows]), ranks, budget, steps, seed):
        for batch in batches(share):
            if len(batch) > 1:
                assert len(batch) * max(lengths[row] for row in batch) <= budget


@given(rows=LENGTHS, ranks=st.integers(1, 4), budget=st.integers(1, 400), steps=st.integers(1, 5), seed=st.integers(0, 9))
def test_tokens_count_the_responses_of_a_step_over_all_ranks(rows, ranks, budget, steps, seed):
    responses = [r for _, r in rows]
    shares = plan(apart([p + r for p, r in rows], responses), ranks, budget, steps, seed)
    for k, tokens in enumerate(shares[0].tokens):
        assert tokens == sum(responses[share.responses[i]] for share in shares for batch in share.steps[k] for row in batch for i in row)
    assert all(share.tokens == shares[0].tokens for share in shares)


def test_rows_of_similar_length_share_a_micro_batch():
    # 8 + 8 + 8 and 2 + 2 + 2 fit into 24 tokens without padding; in their given order, 8 tokens would share a micro-batch with 2.
    [share] = plan(apart([8, 2, 8, 2, 8, 2], [1] * 6), ranks=1, micro_batch_tokens=24, optimizer_steps=1, seed=0)
    assert [sorted(batch) for batch in batches(share)] == [[0, 2, 4], [1, 3, 5]]
    assert (share.tokens, share.counts) == ([6], [6])


def test_a_row_longer_than_the_budget_has_a_separate_micro_batch():
    [share] = plan(apart([100, 5, 5], [50, 2, 2]), ranks=1, micro_batch_tokens=10, optimizer_steps=1, seed=0)
    assert [sorted(batch) for batch in batches(share)] == [[0], [1, 2]]


def test_a_row_longer_than_the_budget_does_not_raise_it_for_the_others():
    [share] = plan(apart([4, 2, 2], [1, 1, 1]), ranks=1, micro_batch_tokens=2, optimizer_steps=1, seed=0)
    assert [sorted(batch) for batch in batches(share)] == [[0], [1], [2]]


def test_rows_that_fit_into_one_micro_batch_are_still_spread_over_the_ranks():
    shares = plan(apart([10] * 8, [4] * 8), ranks=2, micro_batch_tokens=1000, optimizer_steps=1, seed=0)
    assert [len(share.responses) for share in shares] == [4, 4]


def test_a_rank_without_rows_gets_an_empty_micro_batch():
    shares = plan(apart([10], [4]), ranks=3, micro_batch_tokens=1000, optimizer_steps=1, seed=0)
    assert [share.steps for share in shares] == [[[[[0]]]], [[[]]], [[[]]]]
    assert all((share.tokens, share.counts) == ([4], [1]) for share in shares)


def test_no_rows_give_a_plan_without_steps():
    assert plan([], ranks=2, micro_batch_tokens=10, optimizer_steps=3, seed=0) == [UpdatePlan([], [], [], []), UpdatePlan([], [], [], [])]


def test_ranks_carry_about_equal_loads():
    lengths = np.random.default_rng(1).integers(10, 500, 600).tolist()
    shares = plan(apart(lengths, lengths), ranks=4, micro_batch_tokens=4096, optimizer_steps=1, seed=0)
    loads = [sum(len(batch) * max(lengths[row] for row in batch) for batch in batches(share)) for share in shares]
    assert max(loads) <= 1.02 * min(loads)
    assert sum(loads) <= 1.05 * sum(lengths)  # padding included


def test_optimizer_steps_get_random_rows_of_similar_lengths():
    lengths = list(range(1, 41))
    [share] = plan(apart(lengths, lengths), ranks=1, micro_batch_tokens=10_000, optimizer_steps=4, seed=0)
    # Each step has one of every four rows adjacent in length, so totals differ by at most 3 for each of the 10.
    assert [len(step[0]) for step in share.steps] == [10, 10, 10, 10]
    assert max(share.tokens) - min(share.tokens) <= 30
    rows = [{share.responses[i] for row in step[0] for i in row} for step in share.steps]
    [other] = plan(apart(lengths, lengths), ranks=1, micro_batch_tokens=10_000, optimizer_steps=4, seed=1)
    [again] = plan(apart(lengths, lengths), ranks=1, micro_batch_tokens=10_000, optimizer_steps=4, seed=0)
    assert again == share
    assert [{other.responses[i] for row in step[0] for i in row} for step in other.steps] != rows


def test_padding_that_costs_more_than_a_micro_batch_is_avoided():
    # Together 44 rows of 100 tokens: 3600 of 4400 are padding. Apart 4 x 100 and 40 x 10.
    [share] = plan(apart([100] * 4 + [10] * 40, [1] * 44), ranks=1, micro_batch_tokens=10_000, optimizer_steps=1, seed=0)
    assert [len(batch) for batch in share.steps[0]] == [4, 40]
    # Of 4 x 100 and 4 x 10 tokens only 360 would be saved: less than a micro-batch's 512.
    [share] = plan(apart([100] * 4 + [10] * 4, [1] * 8), ranks=1, micro_batch_tokens=10_000, optimizer_steps=1, seed=0)
    assert [len(batch) for batch in share.steps[0]] == [8]


def test_there_are_no_more_micro_batches_than_the_budget_requires():
    lengths = [7] * 100
    [share] = plan(apart(lengths, lengths), ranks=1, micro_batch_tokens=70, optimizer_steps=1, seed=0)
    assert len(share.steps[0]) == math.ceil(100 / (70 // 7))


def tokens(row: list[Length]) -> int:
    """Return the length of a prompt with its responses."""
    return row[0].prompt_tokens + sum(one.response_tokens for one in row)


GROUPS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60)), max_size=60)


@given(group=GROUPS, ranks=st.integers(1, 3), budget=st.integers(1, 400), steps=st.integers(1, 3))
def test_packed_rows_hold_every_response_once_and_never_those_of_two_prompts(group, ranks, budget, steps):
    batch = [Length(prompt, 10 + prompt, response) for prompt, response in group]
    shares = plan(batch, ranks, budget, steps, 0, packed=True)
    assert sorted(i for share in shares for i in share.responses) == list(range(len(batch)))
    for share in shares:
        rows = [[batch[share.responses[i]] for i in row] for step in share.steps for micro_batch in step for row in micro_batch]
        assert all(len({one.prompt for one in row}) == 1 for row in rows)
        for row in rows:
            if len(row) > 1:
                assert tokens(row) <= budget
        for micro_batch in (micro_batch for step in share.steps for micro_batch in step if len(micro_batch) > 1):
            assert sum(tokens([batch[share.responses[i]] for i in row]) for row in micro_batch) <= budget
    if shares[0].steps:
        assert len({tuple(len(step) for step in share.steps) for share in shares}) == 1


def test_responses_to_one_prompt_share_a_row_as_far_as_they_fit():
    # 20 + 4 * 10 = 60: a fifth response would make 70.
    batch = [Length(7, 20, 10)] * 5 + [Length(8, 20, 10)]
    assert rows_of(batch, 60) == [[0, 1, 2, 3], [4], [5]]
    assert rows_of(batch, 1) == [[0], [1], [2], [3], [4], [5]]


def test_packed_rows_are_not_padded_and_count_their_prompt_once_in_the_budget():
    # Prompts of 50 and 10 with four responses of 5: 70 and 30 tokens, both in a micro-batch of 100, where eight rows of 55 would need 440.
    batch = [Length(0, 50, 5)] * 4 + [Length(1, 10, 5)] * 4
    [share] = plan(batch, 1, 100, 1, 0, packed=True)
    assert share.steps == [[[[0, 1, 2, 3], [4, 5, 6, 7]]]]
    assert (share.tokens, share.counts) == ([40], [8])
