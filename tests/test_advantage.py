"""Group advantages: hand-computed cases and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uec.algorithm.advantage import group_advantage, joint_advantage
from uec.errors import RunFailed

rewards = st.lists(st.integers(0, 100).map(lambda percent: percent / 100), min_size=2, max_size=40)


def test_one_success_of_four() -> None:
    # mean 1/4; squares (9 + 1 + 1 + 1)/16 = 3/4, over n - 1 = 3: variance 1/4, std 1/2; (1 - 1/4) / .5 = 1.5, -.25 / .5 = -.5
    np.testing.assert_allclose(group_advantage([1, 0, 0, 0]), [1.5, -0.5, -0.5, -0.5], atol=1e-5)


def test_one_success_of_twenty() -> None:
    # mean .05; squares .95^2 + 19 * .05^2 = .95, over 19: variance .05, std .223607; .95 / .223607 = 4.24853, -.05 / .223607 = -.223607
    # and the 1e-6 in the denominator: 4.24853 * (1 - 1e-6 / .2236) = 4.24851
    advantages_H = group_advantage([0] * 13 + [1] + [0] * 6)
    assert advantages_H[13] == pytest.approx(4.2485, abs=1e-4)
    np.testing.assert_allclose(np.delete(advantages_H, 13), -0.2236, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1 / 3, 0.7])
@pytest.mark.parametrize("size", [2, 3, 8, 20])
def test_equal_rewards_give_exactly_zero(value: float, size: int) -> None:
    assert group_advantage([value] * size).tolist() == [0.0] * size


def test_a_reward_at_the_mean_gives_exactly_zero_despite_rounding() -> None:
    # .1 + .2 + .3 is .6000000000000001 in floats, a third of it .20000000000000004: the middle one must not become -2.8e-16
    assert group_advantage([0.1, 0.2, 0.3])[1] == 0.0


def test_a_group_of_one_and_an_empty_group_give_zero() -> None:
    assert group_advantage([1.0]).tolist() == [0.0]
    assert group_advantage([]).tolist() == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_no_finite_number_is_refused(bad: float) -> None:
    with pytest.raises(RunFailed, match="not a finite number"):
        group_advantage([0.0, bad])


def test_joint_advantages_share_one_mean_and_std() -> None:
    # [0, 0 | 0, 1]: the same four rewards as above in another order
    regular_G, exploration_H = joint_advantage([0, 0], [0, 1])
    np.testing.assert_allclose(regular_G, [-0.5, -0.5], atol=1e-5)
    np.testing.assert_allclose(exploration_H, [-0.5, 1.5], atol=1e-5)


@given(rewards)
def test_advantages_of_a_group_sum_to_about_zero(values: list[float]) -> None:
    assert abs(group_advantage(values).sum()) < 1e-7


@given(rewards, st.randoms())
def test_advantages_follow_a_permutation_of_the_group(values: list[float], random) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    permuted = group_advantage([values[i] for i in order])
    np.testing.assert_allclose(permuted, group_advantage(values)[order], atol=1e-9)


@given(st.lists(st.floats(-1e6, 1e6), max_size=20))
def test_advantages_are_finite_for_any_finite_rewards(values: list[float]) -> None:
    advantages_G = group_advantage(values)
    assert advantages_G.shape == (len(values),) and np.isfinite(advantages_G).all()


@given(st.integers(1, 30), st.integers(1, 30))
def test_binary_rewards_have_unit_spread_and_the_sign_of_the_outcome(right: int, wrong: int) -> None:
    advantages_G = group_advantage([1.0] * right + [0.0] * wrong)
    assert np.std(advantages_G, ddof=1) == pytest.approx(1, abs=1e-4)
    assert (advantages_G[:right] > 0).all() and (advantages_G[right:] < 0).all()
