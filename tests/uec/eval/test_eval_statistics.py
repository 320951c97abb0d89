"""The statistics of `uec eval`: values computed by hand or by enumeration."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uec.eval.estimate import PromptValues, difference, estimate
from uec.eval.pass_at_k import majority_at_k


def counted(right: list[bool], votes: list[str | None], k: int) -> float:
    """Return majority@k by enumeration: the vote of every choice of k, with ties shared equally."""
    won = []
    for chosen in combinations(range(len(votes)), k):
        cast = ["REFERENCE" if right[i] else votes[i] for i in chosen]
        names = {vote for vote in cast if vote is not None}
        most = max((cast.count(name) for name in names), default=0)
        first = [name for name in names if cast.count(name) == most]
        won.append(first.count("REFERENCE") / len(first) if first else 0.0)
    return float(np.mean(won))


def test_three_votes_for_the_right_answer_beat_two_for_a_wrong_one():
    assert majority_at_k([True, True, True, False, False], ["18", "18", "18", "7", "7"], 5) == 1.0


def test_a_tie_of_two_answers_counts_half():
    assert majority_at_k([True, True, False, False], ["18", "18", "7", "7"], 4) == 0.5


def test_a_tie_of_three_answers_counts_a_third():
    assert majority_at_k([True, False, False], ["18", "7", "9"], 3) == pytest.approx(1 / 3)


def test_a_response_without_an_answer_does_not_vote():
    assert majority_at_k([True, False, False, False], ["18", None, None, None], 4) == 1.0
    assert majority_at_k([False, False], [None, None], 2) == 0.0


def test_right_responses_vote_together_whatever_they_look_like():
    # 0.5 and 1/2: two votes for the reference against two for 7 is a tie, against one of 7 and one of 9 a win.
    assert majority_at_k([True, True, False, False], ["0.5", "1/2", "7", "7"], 4) == 0.5
    assert majority_at_k([True, True, False, False], ["0.5", "1/2", "7", "9"], 4) == 1.0


def test_majority_at_1_is_the_share_of_right_responses():
    assert majority_at_k([True, False, False, False], ["18", "7", "7", None], 1) == 0.25


def test_majority_at_2_of_4_is_the_mean_of_the_six_pairs():
    # right, right, 7, none: RR 1; R7 twice 1/2; R- twice 1; 7- 0: (1 + 0.5 + 0.5 + 1 + 1 + 0) / 6
    assert majority_at_k([True, True, False, False], ["18", "18", "7", None], 2) == pytest.approx(4 / 6)


@given(st.lists(st.sampled_from(["R", "a", "b", "c", None]), min_size=1, max_size=8), st.data())
def test_majority_agrees_with_counting_every_choice(votes, data):
    k = data.draw(st.integers(1, len(votes)))
    right = [vote == "R" for vote in votes]
    assert majority_at_k(right, votes, k) == pytest.approx(counted(right, votes, k))


def test_majority_of_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="majority@3 needs at least 3 responses of a prompt, there are 2"):
        majority_at_k([True, False], ["1", "2"], 3)


def test_an_estimate_is_the_mean_with_the_normal_interval_of_many_prompts():
    values = np.repeat([0.0, 1.0], 200)
    found = estimate(PromptValues.of(values))
    half = 1.96 * 0.5 / np.sqrt(400)
    assert found.value == 0.5
    assert found.low == pytest.approx(0.5 - half, abs=0.01) and found.high == pytest.approx(0.5 + half, abs=0.01)


def test_a_weighted_estimate_is_a_mean_over_tokens():
    # 10 tokens of 0.2 nats and 30 of 0.6: (2 + 18) / 40
    assert estimate(PromptValues.of([0.2, 0.6], weights=[10, 30])).value == pytest.approx(0.5)


def test_a_paired_difference_that_is_the_same_on_every_prompt_has_no_width():
    ours = np.linspace(0, 0.8, 50)
    found = difference(PromptValues.of(ours), PromptValues.of(ours + 0.1))
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(1)
    hard = rng.random(200)
    ours, theirs = hard, np.clip(hard + rng.normal(0.05, 0.02, 200), 0, 1)
    paired, alone = difference(PromptValues.of(ours), PromptValues.of(theirs)), estimate(PromptValues.of(ours))
    assert paired.low > 0 and paired.high - paired.low < (alone.high - alone.low) / 5


def test_an_estimate_of_no_prompts_is_none():
    assert estimate(PromptValues.of([])) is None
    assert difference(PromptValues.of([]), PromptValues.of([])) is None


def test_prompts_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="2 prompts cannot be paired with 1"):
        difference(PromptValues.of([0.0, 1.0]), PromptValues.of([1.0]))
