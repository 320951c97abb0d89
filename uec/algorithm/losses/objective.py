"""The loss of a micro-batch, combined from its terms."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from uec.algorithm.losses.policy import PolicyLoss
from uec.algorithm.losses.terms import entropy_bonus, kl_estimate, less_kl_to_go, with_entropy_advantage
from uec.algorithm.losses.token_batch import Metrics, TokenBatch
from uec.config.schema import LossConfig


@dataclass(frozen=True, slots=True)
class StepSize:
    """An optimizer step's size over all ranks."""

    tokens: int  # response tokens
    rows: int  # responses
    longest: int  # rollout.max_tokens: the constant of `seq-mean-token-sum-norm`


def token_weights(batch: TokenBatch, size: StepSize, aggregation: str) -> Tensor:
    """Return the weight of each token [N]; the sum of weighted losses is this micro-batch's share of the loss.

    token-mean: mean over all tokens (DAPO, 2503.14476). seq-mean-token-mean: mean over responses of their means (GRPO as
    first published, 2402.03300). seq-mean-token-sum: mean over responses of their sums. seq-mean-token-sum-norm: the same, divided by
    the constant rollout.max_tokens (Dr. GRPO, 2503.20783).
    """
    rows, tokens = max(1, size.rows), max(1, size.tokens)
    if aggregation == "seq-mean-token-mean":
        return 1 / (rows * batch.counts_B()[batch.row_N].to(batch.logprobs_N.dtype))
    scale = {"token-mean": 1 / tokens, "seq-mean-token-sum": 1 / rows, "seq-mean-token-sum-norm": 1 / (rows * size.longest)}[aggregation]
    return torch.full_like(batch.logprobs_N.detach(), scale)


def objective(batch: TokenBatch, policy_loss: PolicyLoss, settings: LossConfig, size: StepSize) -> tuple[Tensor, Metrics]:
    """Return this micro-batch's share of the optimizer step's loss, and sums for the `policy/` metrics.

    The order: change the advantages (KL in the reward, entropy advantage), compute the policy loss, multiply it by the behaviour
    policy's weights, add KL and entropy bonus, and aggregate.
    """
    metrics: Metrics = {}
    kl_N = None
    if batch.reference_N is not None:
        kl_N = kl_estimate(batch.logprobs_N, batch.reference_N, settings.kl_estimator)
        metrics["kl"] = kl_N.detach().sum()
        if settings.kl_in == "reward":
            batch = replace(batch, advantages_N=less_kl_to_go(batch, batch.reference_N, settings))
    if settings.entropy_advantage_alpha > 0 and batch.entropies_N is not None:
        batch = replace(batch, advantages_N=with_entropy_advantage(batch.advantages_N, batch.entropies_N, settings))
    loss_N, sums = policy_loss(batch, settings)
    metrics |= sums
    if batch.behaviour_weights_N is not None:
        loss_N = loss_N * batch.behaviour_weights_N
        metrics["behaviour_weight"] = batch.behaviour_weights_N.sum()
    if kl_N is not None and settings.kl_in == "loss":
        loss_N = loss_N + settings.kl_coef * kl_N
    if settings.entropy_coef > 0 and batch.entropies_N is not None:
        loss_N = loss_N + entropy_bonus(batch.entropies_N, settings)
    loss = (loss_N * token_weights(batch, size, settings.aggregation)).sum()
    return loss, metrics | {"loss": loss.detach()}
