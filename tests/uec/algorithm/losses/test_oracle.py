"""Losses, KL, weights and entropies against values of verl and TRL (tests/oracle) to 1e-5.

What differs on purpose differs by exactly what is said. Both packages work on padded [B, T] with masks; ours on the response
tokens laid end to end. Row 2 is empty.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracle.inputs import ROWS, TOKENS, Batch, cases, logits
from tests.oracle.values import load
from uec.algorithm.entropy import Gradients, token_scores
from uec.algorithm.losses.objective import StepSize, objective, token_weights
from uec.algorithm.losses.policy import BUILTIN, mark, token_covariance
from uec.algorithm.losses.terms import kl_estimate, truncated_weights
from uec.algorithm.losses.token_batch import TokenBatch
from uec.config.schema import LossConfig

CASES, VERL, TRL = cases(), load("verl"), load("trl")
BOTH = ("graded", "binary")
FILLED = ROWS - 1
"""Responses that are not empty: verl's means over responses are over these, ours and TRL's over all."""


def flat(values_BT: Any, batch: Batch) -> Tensor:
    """The response tokens of a padded table."""
    return torch.as_tensor(values_BT, dtype=torch.float64)[torch.from_numpy(batch.mask_BT).bool()]


def tokens(case: str, **more: Tensor) -> TokenBatch:
    batch = CASES[case]
    row_BT = torch.arange(ROWS)[:, None].expand(-1, TOKENS)
    return TokenBatch(
        logprobs_N=flat(batch.new_BT, batch).requires_grad_(),
        old_N=flat(batch.old_BT, batch),
        advantages_N=flat(torch.from_numpy(batch.advantages_B)[:, None].expand(-1, TOKENS), batch),
        row_N=row_BT[torch.from_numpy(batch.mask_BT).bool()],
        rows=ROWS,
        **more,
    )


@dataclass(frozen=True)
class Ours:
    loss: float
    gradient_N: Tensor
    metrics: dict[str, float]  # means over tokens


def ours(batch: TokenBatch, settings: LossConfig, longest: int = TOKENS) -> Ours:
    count = len(batch.logprobs_N)
    loss, sums = objective(batch, BUILTIN[settings.policy], settings, StepSize(count, ROWS, longest))
    (gradient_N,) = torch.autograd.grad(loss, batch.logprobs_N)
    return Ours(loss.item(), gradient_N, {name: float(value) / count for name, value in sums.items()})


def agree(mine: Ours, theirs: dict[str, Any], factor: float = 1.0) -> None:
    """Loss and gradient of ours, times a factor that the caller explains, are theirs."""
    assert theirs["outputs"]["loss"] == pytest.approx(mine.loss * factor, abs=1e-5)
    expected_N = flat(theirs["outputs"]["gradient"], CASES[theirs["case"]])
    torch.testing.assert_close(mine.gradient_N * factor, expected_N, rtol=0, atol=1e-5)
    assert expected_N.abs().max() > 1e-3  # there is something to compare


def ppo(high: float, dual: float | None = None, **more: Any) -> LossConfig:
    return LossConfig(policy="ppo_clip", clip_low=0.2, clip_high=high, dual_clip=dual, **more)


def sequence(aggregation: str, low: float = 3e-4, high: float = 4e-4) -> LossConfig:
    return LossConfig(policy="gspo", clip_low=low, clip_high=high, dual_clip=None, aggregation=aggregation)


def weights(upper: float, low: float = 1.0) -> LossConfig:
    return LossConfig(policy="cispo", clip_low=low, clip_high=upper, dual_clip=None)


# --- policy losses against verl

MEAN, MEANS = "token-mean", "seq-mean-token-mean"
VERL_LOSSES = {
    # name: our settings, and verl's loss over ours. verl leaves the empty response out of the count of responses: 12/11
    "ppo": (ppo(0.2), 1.0),
    "ppo_clip_higher": (ppo(0.28), 1.0),
    "ppo_dual": (ppo(0.2, 3.0), 1.0),
    "ppo_clip_higher_dual": (ppo(0.28, 3.0), 1.0),
    "ppo_clip_higher_dual_seq-mean-token-mean": (ppo(0.28, 3.0, aggregation=MEANS), ROWS / FILLED),
    "ppo_clip_higher_dual_seq-mean-token-sum": (ppo(0.28, 3.0, aggregation="seq-mean-token-sum"), ROWS / FILLED),
    # by the width of the mask, which is 9 here; ours by rollout.max_tokens, also 9
    "ppo_clip_higher_dual_seq-mean-token-sum-norm": (ppo(0.28, 3.0, aggregation="seq-mean-token-sum-norm"), ROWS / FILLED),
    "gspo": (sequence(MEANS), ROWS / FILLED),
    "gspo_token-mean": (sequence(MEAN), 1.0),
    "gspo_wide": (sequence(MEANS, 0.2, 0.28), ROWS / FILLED),
    "cispo": (weights(0.28, 0.2), 1.0),
    "cispo_upper_1.28": (weights(0.28), 1.0),
    "cispo_upper_5": (weights(4.0), 1.0),
}


@pytest.mark.parametrize("case", BOTH)
@pytest.mark.parametrize("name", VERL_LOSSES)
def test_policy_losses_are_those_of_verl(name: str, case: str) -> None:
    settings, factor = VERL_LOSSES[name]
    theirs, mine = VERL[f"loss/{name}/{case}"], ours(tokens(case), settings)
    agree(mine, theirs, factor)
    told = theirs["outputs"]["metrics"]
    assert told["actor/pg_clipfrac"] == pytest.approx(mine.metrics["clip_frac"], abs=1e-5)
    assert told["actor/pg_clipfrac_lower"] == pytest.approx(mine.metrics["dual_clip_frac"], abs=1e-5)


@pytest.mark.parametrize("case", BOTH)
def test_the_token_sum_of_verl_is_our_mean_times_the_tokens(case: str) -> None:
    batch = tokens(case)
    agree(ours(batch, ppo(0.28, 3.0)), VERL[f"loss/ppo_clip_higher_dual_token-sum/{case}"], len(batch.old_N))


def test_beyond_the_numerical_guards_ppo_and_cispo_are_those_of_verl() -> None:
    # both clamp log pi - log pi_old at 20
    agree(ours(tokens("extreme"), ppo(0.28, 3.0)), VERL["loss/ppo_clip_higher_dual/extreme"])
    agree(ours(tokens("extreme"), weights(0.28, 0.2)), VERL["loss/cispo/extreme"])


@pytest.mark.parametrize("case", BOTH)
def test_token_weights_of_the_behaviour_policy_are_those_of_verl_and_trl(case: str) -> None:
    batch = CASES[case]
    weights_N = truncated_weights(flat(batch.old_BT, batch), flat(batch.rollout_BT, batch), 2.0)
    for theirs in (VERL[f"tis/token/{case}"], TRL[f"tis/token_truncate/{case}"]):
        torch.testing.assert_close(weights_N, flat(theirs["outputs"]["weights"], batch), rtol=0, atol=1e-5)
    assert (weights_N == 2).any() and (weights_N < 1).any()
    mine = ours(tokens(case, behaviour_weights_N=weights_N), ppo(0.28, 3.0))
    agree(mine, VERL[f"loss/ppo_clip_higher_dual_tis/{case}"])
    agree(mine, TRL[f"loss/dapo_clip_higher_delta_tis/{case}"])


# --- Clip-Cov and KL-Cov


@pytest.mark.parametrize("case", BOTH)
@pytest.mark.parametrize(("name", "low", "high"), [("clip_cov_all", 1.0, 5.0), ("clip_cov_all_wide", 0.2, 20.0)])
def test_clip_cov_differs_from_verl_in_the_value_of_tokens_that_ppo_clips(name: str, low: float, high: float, case: str) -> None:
    # verl's candidates are not clipped by PPO; the paper's (and ours, marked before the forward pass) may be. Those have no
    # gradient either way; marked, they lose their value, too.
    theirs, batch = VERL[f"loss/{name}/{case}"], tokens(case)
    settings = LossConfig(policy="clip_cov", dual_clip=None, cov_share=1.0, cov_range=[low, high])
    covariance_N = token_covariance(batch.logprobs_N.detach(), batch.advantages_N)
    marked_N = mark(covariance_N, settings, torch.Generator())
    ratio_N = batch.log_ratio_N().detach().exp()
    clipped_N = torch.where(batch.advantages_N > 0, ratio_N > 1.2, ratio_N < 0.8)
    chosen_N = flat(theirs["outputs"]["chosen"], CASES[case]).bool()
    assert torch.equal(chosen_N, marked_N & ~clipped_N) and chosen_N.any()

    agree(ours(tokens(case, marked_N=chosen_N), settings), theirs)
    mine = ours(tokens(case, marked_N=marked_N), settings)
    lost_N = torch.where(marked_N & clipped_N, -ratio_N.clamp(0.8, 1.2) * batch.advantages_N, 0.0)
    agree(Ours(mine.loss + lost_N.mean().item(), mine.gradient_N, {}), theirs)


@pytest.mark.parametrize("case", BOTH)
def test_clip_cov_at_its_default_share_takes_one_token_of_the_range_as_in_verl(case: str) -> None:
    theirs, batch = VERL[f"loss/clip_cov_seeded/{case}"], tokens(case)
    chosen_N = flat(theirs["outputs"]["chosen"], CASES[case]).bool()
    settings = LossConfig(policy="clip_cov", dual_clip=None, cov_share=2e-4, cov_range=[1.0, 5.0])
    covariance_N = token_covariance(batch.logprobs_N.detach(), batch.advantages_N)
    assert chosen_N.sum() == 1 == mark(covariance_N, settings, torch.Generator()).sum()
    assert 1 < covariance_N[chosen_N].item() < 5
    agree(ours(tokens(case, marked_N=chosen_N), settings), theirs)


@pytest.mark.parametrize("case", BOTH)
@pytest.mark.parametrize(("name", "share", "coef"), [("kl_cov", 2e-4, 1.0), ("kl_cov_20%", 0.2, 1.0), ("kl_cov_20%_0.1", 0.2, 0.1)])
def test_kl_cov_chooses_and_penalises_as_verl_does(name: str, share: float, coef: float, case: str) -> None:
    theirs, batch = VERL[f"loss/{name}/{case}"], tokens(case)
    settings = LossConfig(policy="kl_cov", dual_clip=None, cov_share=share, cov_kl_coef=coef)
    marked_N = mark(token_covariance(batch.logprobs_N.detach(), batch.advantages_N), settings, torch.Generator())
    assert torch.equal(marked_N, flat(theirs["outputs"]["chosen"], CASES[case]).bool())
    agree(ours(tokens(case, marked_N=marked_N), settings), theirs)


# --- policy losses against TRL

TRL_LOSSES = {
    "grpo": ppo(0.2, aggregation=MEANS),
    "grpo_clip_higher": ppo(0.28, aggregation=MEANS),
    "bnpo_clip_higher": ppo(0.28),  # the mean over this batch's tokens; there is but one micro-batch here
    "dapo_clip_higher": ppo(0.28),  # the mean over the whole batch's
    "dr_grpo_clip_higher": ppo(0.28, aggregation="seq-mean-token-sum-norm"),  # all 12 rows x the longest, 9
    "grpo_clip_higher_delta": ppo(0.28, 3.0, aggregation=MEANS),
    "bnpo_clip_higher_delta": ppo(0.28, 3.0),
    "dapo_clip_higher_delta": ppo(0.28, 3.0),
    "dr_grpo_clip_higher_delta": ppo(0.28, 3.0, aggregation="seq-mean-token-sum-norm"),
    "gspo_grpo": sequence(MEANS),
    "gspo_bnpo": sequence(MEAN),
    "gspo_dapo": sequence(MEAN),
    "gspo_wide_grpo": sequence(MEANS, 0.2, 0.28),
    "cispo_upper_1.28": weights(0.28),  # its epsilon_high is the upper bound itself
    "cispo_upper_5": weights(4.0),
}


@pytest.mark.parametrize("case", BOTH)
@pytest.mark.parametrize("name", TRL_LOSSES)
def test_policy_losses_are_those_of_trl(name: str, case: str) -> None:
    theirs, mine = TRL[f"loss/{name}/{case}"], ours(tokens(case), TRL_LOSSES[name])
    agree(mine, theirs)
    if not name.startswith(("gspo", "cispo")):  # its fractions are of sequences there, of tokens with A > 0 here
        assert theirs["outputs"]["metrics"]["clip_ratio/region_mean"] == pytest.approx(mine.metrics["clip_frac"], abs=1e-5)


def test_beyond_our_guard_of_the_ratio_trl_which_has_none_gives_the_same() -> None:
    agree(ours(tokens("extreme"), ppo(0.28, 3.0)), TRL["loss/dapo_clip_higher_delta/extreme"])


@pytest.mark.parametrize("case", BOTH)
def test_the_kl_beside_the_policy_loss_is_that_of_trl_without_its_correction(case: str) -> None:
    reference_N = flat(CASES[case].ref_BT, CASES[case])
    mine = ours(tokens(case, reference_N=reference_N), ppo(0.28, kl_coef=0.01))
    agree(mine, TRL[f"loss/dapo_clip_higher_kl/{case}"])
    assert TRL[f"loss/dapo_clip_higher_kl/{case}"]["outputs"]["metrics"]["kl"] == pytest.approx(mine.metrics["kl"], abs=1e-5)
    # By default TRL multiplies k3 by the ratio, with gradient: .01 * mean((rho - 1) k3) on top
    batch = tokens(case)
    extra = 0.01 * (torch.expm1(batch.log_ratio_N()) * kl_estimate(batch.logprobs_N, reference_N, "k3")).mean()
    (slope_N,) = torch.autograd.grad(extra, batch.logprobs_N)
    agree(Ours(mine.loss + extra.item(), mine.gradient_N + slope_N, {}), TRL[f"loss/dapo_clip_higher_kl_corrected/{case}"])


# --- aggregation


@pytest.mark.parametrize("case", BOTH)
@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"])
def test_aggregation_of_a_loss_matrix_is_that_of_verl(mode: str, case: str) -> None:
    batch = tokens(case)
    local = StepSize(len(batch.old_N), FILLED, TOKENS)  # what verl counts by itself
    # As micro-batch on one of two ranks, whose gradients are averaged afterwards: times 2
    for name, size, factor in ((mode, local, 1), (f"{mode}_global", StepSize(200, 30, 16), 2)):
        theirs = VERL[f"aggregation/{name}/{case}"]["outputs"]
        weights_N = token_weights(batch, size, mode) * factor
        torch.testing.assert_close(weights_N, flat(theirs["weights"], CASES[case]), rtol=0, atol=1e-9)
        assert theirs["loss"] == pytest.approx((-batch.old_N * weights_N).sum().item(), abs=1e-5)


# --- KL


@pytest.mark.parametrize("case", BOTH)
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_kl_estimates_are_those_of_verl(estimator: str, case: str) -> None:
    batch, theirs = CASES[case], VERL[f"kl/{estimator}/{case}"]["outputs"]
    logprobs_N = flat(batch.new_BT, batch).requires_grad_()
    kl_N = kl_estimate(logprobs_N, flat(batch.ref_BT, batch), estimator)
    (slope_N,) = torch.autograd.grad(kl_N.sum(), logprobs_N)
    torch.testing.assert_close(kl_N, flat(theirs["kl"], batch), rtol=0, atol=1e-5)
    torch.testing.assert_close(slope_N, flat(theirs["gradient"], batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", BOTH)
def test_the_k3_plus_of_verl_has_our_k3s_value_and_our_k2s_gradient(case: str) -> None:
    batch, theirs = CASES[case], VERL[f"kl/k3+/{case}"]["outputs"]
    logprobs_N, reference_N = flat(batch.new_BT, batch).requires_grad_(), flat(batch.ref_BT, batch)
    (slope_N,) = torch.autograd.grad(kl_estimate(logprobs_N, reference_N, "k2").sum(), logprobs_N)
    torch.testing.assert_close(kl_estimate(logprobs_N.detach(), reference_N, "k3"), flat(theirs["kl"], batch), rtol=0, atol=1e-5)
    torch.testing.assert_close(slope_N, flat(theirs["gradient"], batch), rtol=0, atol=1e-5)


def test_verl_cuts_k3_at_10_and_its_gradient_there_and_ours_does_not() -> None:
    batch, theirs = CASES["extreme"], VERL["kl/k3/extreme"]["outputs"]
    logprobs_N = flat(batch.new_BT, batch).requires_grad_()
    kl_N = kl_estimate(logprobs_N, flat(batch.ref_BT, batch), "k3")
    (slope_N,) = torch.autograd.grad(kl_N.sum(), logprobs_N)
    assert (kl_N > 10).any()
    torch.testing.assert_close(kl_N.clamp(max=10), flat(theirs["kl"], batch), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.where(kl_N > 10, 0.0, slope_N), flat(theirs["gradient"], batch), rtol=0, atol=1e-5)


# --- entropy


@pytest.mark.parametrize("rows", [4, 100])
@pytest.mark.parametrize("package", [VERL, TRL], ids=["verl", "trl"])
def test_entropies_their_gradient_and_log_probabilities_are_theirs(package: dict[str, Any], rows: int) -> None:
    logits_NV, ids_N = (torch.from_numpy(array).flatten(0, 1) for array in logits())
    logits_NV.requires_grad_()
    scores = token_scores(logits_NV, lambda piece: piece * 1.0, ids_N, rows, gradients=Gradients(entropy=True))
    (slope_NV,) = torch.autograd.grad(scores.entropies_N.sum(), logits_NV)
    theirs = {name: torch.tensor(value, dtype=torch.float64) for name, value in package["entropy/logits"]["outputs"].items()}
    torch.testing.assert_close(scores.entropies_N, theirs["entropy"].flatten(), rtol=0, atol=1e-5)
    torch.testing.assert_close(slope_NV, theirs["gradient"].flatten(0, 1), rtol=0, atol=1e-5)
    logprobs = torch.tensor(package["logprobs/logits"]["outputs"]["logprobs"], dtype=torch.float64)
    torch.testing.assert_close(scores.logprobs_N, logprobs.flatten(), rtol=0, atol=1e-5)
