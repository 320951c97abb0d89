"""Advantages against values of verl and TRL (tests/oracle) to 1e-5; what differs on purpose, differs by what is said."""

import numpy as np
import pytest

from tests.oracle.inputs import EMPTY_ROW, Batch, cases
from tests.oracle.values import load
from uec.algorithm.advantage import BUILTIN

CASES, VERL, TRL = cases(), load("verl"), load("trl")
EVERY = ("graded", "binary", "unequal", "singleton")
FILLED = [row for row in range(12) if row != EMPTY_ROW]


def groups(batch: Batch) -> list[np.ndarray]:
    return [batch.rewards_B[batch.groups_B == g] for g in np.unique(batch.groups_B)]


def ours(estimator: str, case: str) -> np.ndarray:
    """Advantages [B]."""
    return np.concatenate(BUILTIN[estimator](groups(CASES[case])))


def of_verl(name: str, case: str) -> np.ndarray:
    """verl's advantage of each response [B], which it repeats at each of the tokens; NaN for the empty one."""
    advantages_BT, mask_BT = np.array(VERL[f"advantage/{name}/{case}"]["outputs"]["advantages"]), CASES[case].mask_BT
    rows = [advantages[mask == 1] for advantages, mask in zip(advantages_BT, mask_BT, strict=True)]
    assert all(np.ptp(row) < 1e-9 for row in rows if len(row))
    return np.array([row[0] if len(row) else np.nan for row in rows])


@pytest.mark.parametrize("case", EVERY)
@pytest.mark.parametrize(("estimator", "name"), [("group", "grpo"), ("centred", "grpo_no_std"), ("rloo", "rloo")])
def test_advantages_of_groups_are_those_of_verl_but_for_groups_of_one(estimator: str, name: str, case: str) -> None:
    # verl gives a group of one its bare reward (for grpo by a std of 1, + 1e-6); algorithm.md says 0: there is nothing to compare it with
    batch, mine_B, theirs_B = CASES[case], ours(estimator, case), of_verl(name, case)
    sizes_B = np.bincount(batch.groups_B)[batch.groups_B]
    alone_B = sizes_B == 1
    assert alone_B.any() == (case == "singleton")
    assert not mine_B[alone_B].any()
    np.testing.assert_allclose(theirs_B[alone_B], batch.rewards_B[alone_B], atol=1e-5)
    compared_B = ~alone_B & ~np.isnan(theirs_B)
    np.testing.assert_allclose(mine_B[compared_B], theirs_B[compared_B], rtol=0, atol=1e-5)
    assert compared_B.sum() >= 10


@pytest.mark.parametrize("case", ["graded"])
def test_equal_rewards_give_exactly_zero_and_almost_zero_in_verl_and_trl(case: str) -> None:
    assert not ours("group", case)[4:8].any()
    assert np.abs(of_verl("grpo", case)[4:8]).max() < 1e-5
    assert np.abs(np.array(TRL[f"advantage/group/{case}"]["outputs"]["advantages"])[4:8]).max() < 2e-3  # float32: the mean rounds


@pytest.mark.parametrize("case", EVERY)
@pytest.mark.parametrize(("estimator", "name"), [("batch", "reinforce_plus_plus"), ("batch_with_baseline", "reinforce_plus_plus_baseline")])
def test_reinforce_pp_is_that_of_verl_if_each_response_counts_once_a_token(estimator: str, name: str, case: str) -> None:
    # verl's mean and std are over tokens, where a long response counts more and an empty one not at all; ours over responses.
    # With each reward repeated for its tokens ours is verl's, up to its / sqrt(var + 1e-8) for our / (std + 1e-6).
    batch = CASES[case]
    rewards = groups(batch) if estimator == "batch" else BUILTIN["centred"](groups(batch))
    lengths_B = batch.mask_BT.sum(1)
    repeated_N = np.repeat(np.concatenate(rewards), lengths_B)
    std = repeated_N.std(ddof=1)
    if case == "singleton" and estimator == "batch_with_baseline":
        # verl keeps the reward of a group of one, where ours has 0
        repeated_N = np.repeat(np.where(batch.groups_B == 3, batch.rewards_B, np.concatenate(rewards)), lengths_B)
        std = repeated_N.std(ddof=1)
    (mine_N,) = BUILTIN["batch"]([repeated_N])
    theirs_N = np.repeat(np.nan_to_num(of_verl(name, case)), lengths_B)
    np.testing.assert_allclose(mine_N * (std + 1e-6) / np.sqrt(std**2 + 1e-8), theirs_N, rtol=0, atol=1e-5)
    assert np.abs(ours(estimator, case)[FILLED] - of_verl(name, case)[FILLED]).max() > 1e-2  # so the two are not the same


@pytest.mark.parametrize("case", ["graded", "binary"])
def test_advantages_of_groups_are_those_of_trl_but_for_its_larger_epsilon(case: str) -> None:
    theirs_B = np.array(TRL[f"advantage/group/{case}"]["outputs"]["advantages"])
    stds_B = np.repeat([rewards_G.std(ddof=1) for rewards_G in groups(CASES[case])], 4)
    unequal_B = stds_B > 1e-6  # the equal group: see above
    mine_B = ours("group", case) * (stds_B + 1e-6) / (stds_B + 1e-4)
    np.testing.assert_allclose(mine_B[unequal_B], theirs_B[unequal_B], rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours("group", case)[unequal_B], theirs_B[unequal_B], rtol=0, atol=1e-3)  # all the same, nearly


@pytest.mark.parametrize("case", ["graded", "binary"])
def test_without_the_std_advantages_are_those_of_trl(case: str) -> None:
    theirs_B = np.array(TRL[f"advantage/none/{case}"]["outputs"]["advantages"])
    np.testing.assert_allclose(ours("centred", case), theirs_B, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["graded", "binary"])
def test_trls_batch_scale_divides_by_the_std_of_raw_rewards_and_is_neither_of_ours(case: str) -> None:
    theirs_B = np.array(TRL[f"advantage/batch/{case}"]["outputs"]["advantages"])
    expected_B = ours("centred", case) / (CASES[case].rewards_B.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(expected_B, theirs_B, rtol=0, atol=1e-5)
    for estimator in ("batch", "batch_with_baseline"):
        assert np.abs(ours(estimator, case) - theirs_B).max() > 1e-2
