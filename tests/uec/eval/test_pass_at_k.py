"""pass@k against hand-computed values, enumeration and simulation."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uec.eval.pass_at_k import bootstrap_interval, mean_pass_at_k, pass_at_k


@pytest.mark.parametrize(("k", "value"), [(1, 0.25), (2, 0.5), (4, 1.0)])
def test_one_correct_of_four(k: int, value: float) -> None:
    # k = 2: of 6 pairs 3 hold the correct one
    assert pass_at_k(4, 1, k) == value


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(n: int, data) -> None:
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    subsets = list(combinations([i < correct for i in range(n)], k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


def test_pass_at_k_is_exact_for_many_samples() -> None:
    # n = 1000, c = 1: k / n; C(1000, 500) has 300 digits
    assert pass_at_k(1000, 1, 500) == pytest.approx(0.5, abs=1e-12)


@given(st.integers(1, 40), st.data())
def test_pass_at_k_never_falls_with_k_or_with_correct_samples(n: int, data) -> None:
    correct = data.draw(st.integers(0, n))
    values = [pass_at_k(n, correct, k) for k in range(1, n + 1)]
    assert values == sorted(values) and values[0] == pytest.approx(correct / n)
    assert correct == n or pass_at_k(n, correct + 1, 1) > values[0]


@pytest.mark.parametrize(("n", "correct", "k"), [(4, 1, 5), (4, 1, 0), (4, 5, 1), (4, -1, 1), (0, 0, 1)])
def test_impossible_counts_are_refused(n: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError):
        pass_at_k(n, correct, k)


def test_the_mean_is_over_problems() -> None:
    # n = 4, k = 2: c = 0, 1, 4 give 0, .5, 1
    result = mean_pass_at_k([0, 1, 4], [4, 4, 4], 2)
    assert result.value == pytest.approx(0.5) and result.k == 2
    assert 0 <= result.low <= 0.5 <= result.high <= 1


def test_no_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="no problems"):
        mean_pass_at_k([], [], 1)


def test_the_interval_has_the_width_of_the_normal_approximation() -> None:
    # 400 problems, half solved: standard error .5 / 20 = .025, 95 %: .5 +- .049
    low, high = bootstrap_interval(np.repeat([0.0, 1.0], 200))
    assert low == pytest.approx(0.451, abs=0.008) and high == pytest.approx(0.549, abs=0.008)


def test_the_interval_is_a_point_where_all_problems_agree_and_the_same_for_a_seed() -> None:
    assert bootstrap_interval(np.full(10, 0.3)) == pytest.approx((0.3, 0.3))
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_pass_at_k_is_unbiased_for_fresh_samples() -> None:
    # p = .1, k = 4: 1 - .9^4 = .3439; mean over 4000 problems of n = 8, each estimate's std below .35: standard error .0055
    correct = np.random.default_rng(1).binomial(8, 0.1, size=4000)
    assert mean_pass_at_k(correct.tolist(), [8] * 4000, 4).value == pytest.approx(0.3439, abs=0.02)
