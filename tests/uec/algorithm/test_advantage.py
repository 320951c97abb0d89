"""Advantage estimators: hand-computed cases and properties."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uec.algorithm.advantage import BUILTIN, as_rewards, batch, batch_with_baseline, centred, group, load_estimator, rloo
from uec.errors import BadInput, RunFailed

OF_A_GROUP = [group, centred, rloo]  # those that look at one group at a time
ALL = list(BUILTIN.values())
rewards = st.lists(st.integers(0, 100).map(lambda percent: percent / 100), min_size=2, max_size=40)


def of_one(estimator, values: list[float]) -> np.ndarray:
    [advantages_G] = estimator([as_rewards(values)])
    return advantages_G


def lists(advantages: list[np.ndarray]) -> list[list[float]]:
    return [advantages_G.tolist() for advantages_G in advantages]


# --- by hand


def test_one_success_of_four_by_the_groups_deviation() -> None:
    # mean 1/4; squares (9 + 1 + 1 + 1)/16 = 3/4, over n - 1 = 3: variance 1/4, std 1/2; (1 - 1/4) / .5 = 1.5, -.25 / .5 = -.5
    np.testing.assert_allclose(of_one(group, [1, 0, 0, 0]), [1.5, -0.5, -0.5, -0.5], atol=1e-5)


def test_one_success_of_twenty_by_the_groups_deviation() -> None:
    # mean .05; squares .95^2 + 19 * .05^2 = .95, over 19: variance .05, std .223607; .95 / .223607 = 4.24853, -.05 / .223607 = -.223607
    # and the 1e-6 in the denominator: 4.24853 * (1 - 1e-6 / .2236) = 4.24851
    advantages_H = of_one(group, [0] * 13 + [1] + [0] * 6)
    assert advantages_H[13] == pytest.approx(4.2485, abs=1e-4)
    np.testing.assert_allclose(np.delete(advantages_H, 13), -0.2236, atol=1e-4)


def test_centred_advantages_are_not_divided_by_anything() -> None:
    # mean 1/4: 1 - 1/4 = .75, 0 - 1/4 = -.25
    assert of_one(centred, [1, 0, 0, 0]).tolist() == [0.75, -0.25, -0.25, -0.25]


def test_rloo_compares_each_response_with_the_mean_of_the_others() -> None:
    # the success against the others' mean 0: 1; a failure against (1 + 0 + 0)/3: -1/3. By the formula: 4/3 (1 - 1/4) = 1, 4/3 (-1/4) = -1/3
    np.testing.assert_allclose(of_one(rloo, [1, 0, 0, 0]), [1, -1 / 3, -1 / 3, -1 / 3], atol=1e-12)


def test_batch_normalises_over_all_responses_of_the_step() -> None:
    # [1, 0], [1, 1]: mean 3/4, squares (1 + 9 + 1 + 1)/16 = 3/4, over 3: variance 1/4, std 1/2; .25 / .5 = .5, -.75 / .5 = -1.5
    found = batch([as_rewards([1, 0]), as_rewards([1, 1])])
    assert [len(advantages_G) for advantages_G in found] == [2, 2]
    np.testing.assert_allclose(np.concatenate(found), [0.5, -1.5, 0.5, 0.5], atol=1e-5)


def test_batch_with_baseline_takes_the_groups_mean_and_the_steps_deviation() -> None:
    # [1, 0], [1, 1]: less the groups' means 1/2 and 1: .5, -.5, 0, 0; mean 0, squares 1/2, over 3: variance 1/6, std .408248
    # .5 / .408248 = 1.224745; the group without spread keeps exactly 0, which batch does not give it
    found = batch_with_baseline([as_rewards([1, 0]), as_rewards([1, 1])])
    np.testing.assert_allclose(np.concatenate(found), [1.224745, -1.224745, 0, 0], atol=1e-5)
    assert found[1].tolist() == [0, 0]


def test_groups_of_unequal_sizes_come_back_as_they_went_in() -> None:
    sizes = [3, 1, 5, 2]
    for estimator in ALL:
        found = estimator([as_rewards([1.0] + [0.0] * (size - 1)) for size in sizes])
        assert [len(advantages_G) for advantages_G in found] == sizes


@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1 / 3, 0.7])
@pytest.mark.parametrize("size", [1, 2, 3, 8, 20])
def test_equal_rewards_give_exactly_zero_and_so_does_a_group_of_one(estimator, value: float, size: int) -> None:
    assert of_one(estimator, [value] * size).tolist() == [0.0] * size


@pytest.mark.parametrize("estimator", ALL)
def test_a_reward_at_the_mean_gives_exactly_zero_despite_rounding(estimator) -> None:
    # .1 + .2 + .3 is .6000000000000001 in floats, a third of it .20000000000000004: the middle one must not become -2.8e-16
    assert of_one(estimator, [0.1, 0.2, 0.3])[1] == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_no_finite_number_is_refused(bad: float) -> None:
    with pytest.raises(RunFailed, match="not a finite number"):
        as_rewards([0.0, bad])


# --- properties


@pytest.mark.parametrize("estimator", OF_A_GROUP)
@given(rewards)
def test_advantages_of_a_group_sum_to_about_zero(estimator, values: list[float]) -> None:
    assert abs(of_one(estimator, values).sum()) < 1e-7


@pytest.mark.parametrize("estimator", [batch, batch_with_baseline])
@given(st.lists(rewards, min_size=1, max_size=5))
def test_advantages_of_a_step_sum_to_about_zero(estimator, groups: list[list[float]]) -> None:
    assert abs(np.concatenate(estimator([as_rewards(values) for values in groups])).sum()) < 1e-6


@pytest.mark.parametrize("estimator", ALL)
@given(rewards, rewards, st.randoms())
def test_advantages_follow_a_permutation_of_the_group(estimator, values: list[float], others: list[float], random) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    straight, beside = estimator([as_rewards(values), as_rewards(others)])
    permuted, beside_permuted = estimator([as_rewards([values[i] for i in order]), as_rewards(others)])
    np.testing.assert_allclose(permuted, straight[order], atol=1e-9)
    np.testing.assert_allclose(beside_permuted, beside, atol=1e-9)


@pytest.mark.parametrize("estimator", ALL)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), min_size=1, max_size=4))
def test_advantages_are_finite_for_any_finite_rewards(estimator, groups: list[list[float]]) -> None:
    found = estimator([as_rewards(values) for values in groups])
    assert [len(advantages_G) for advantages_G in found] == [len(values) for values in groups]
    assert all(np.isfinite(advantages_G).all() for advantages_G in found)


@given(st.integers(1, 30), st.integers(1, 30))
def test_binary_rewards_have_unit_spread_and_the_sign_of_the_outcome(right: int, wrong: int) -> None:
    advantages_G = of_one(group, [1.0] * right + [0.0] * wrong)
    assert np.std(advantages_G, ddof=1) == pytest.approx(1, abs=1e-4)
    assert (advantages_G[:right] > 0).all() and (advantages_G[right:] < 0).all()


# --- by name, and the user's


def test_an_estimator_is_known_by_its_name() -> None:
    assert load_estimator("rloo") is rloo


def own(folder: Path, body: str) -> str:
    """Write a user's estimator to a file, and return its name."""
    (folder / "mine.py").write_text(f"def above_median(rewards):\n    import numpy as np\n    return {body}\n")
    return f"{folder / 'mine.py'}:above_median"


def test_a_users_estimator_is_taken_from_its_file(tmp_path: Path) -> None:
    estimator = load_estimator(own(tmp_path, "[r - np.median(r) for r in rewards]"))
    assert lists(estimator([as_rewards([1, 0, 0]), as_rewards([1, 0])])) == [[1, 0, 0], [0.5, -0.5]]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("[r[:1] for r in rewards]", r"returned shapes \[\(1,\)\], expected those of the rewards, \[\(3,\)\]"),
        ("None", "returned NoneType, not a list of arrays"),
        ("[r / 0 for r in rewards]", "an advantage that is not a finite number"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_a_users_estimator_may_not_return_is_named(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(RunFailed, match=f"above_median .*{said}"):
        load_estimator(own(tmp_path, body))([as_rewards([1, 0, 0])])


def test_an_unknown_estimator_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BadInput, match="advantage.estimator: 'rlo' is none of group, .* did you mean rloo"):
        load_estimator("rlo")
