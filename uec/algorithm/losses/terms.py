"""Terms beside the policy loss: KL estimates, entropy bonus, entropy advantage, and importance weights of the behaviour policy."""

import torch
from torch import Tensor

from uec.algorithm.losses.token_batch import LOG_RATIO_MAX, TokenBatch
from uec.config.schema import LossConfig


def kl_estimate(logprobs_N: Tensor, reference_N: Tensor, estimator: str) -> Tensor:
    """Return an estimate of KL(pi || pi_ref) at each sampled token [N], in nats, with d = logp - logp_ref.

    k1 = d is unbiased and may be negative; k2 = d^2 / 2 has an unbiased gradient; k3 = exp(-d) - 1 + d is unbiased, never negative and
    of low variance (Schulman 2020, http://joschu.net/blog/kl-approx.html).
    """
    d_N = (logprobs_N - reference_N.detach()).clamp(-LOG_RATIO_MAX, LOG_RATIO_MAX)
    if estimator == "k1":
        return d_N
    if estimator == "k2":
        return d_N.square() / 2
    return torch.expm1(-d_N) + d_N


def less_kl_to_go(batch: TokenBatch, reference_N: Tensor, settings: LossConfig) -> Tensor:
    """Return advantages [N] minus kl_coef times the KL from each token to the end of its response, without gradient.

    REINFORCE++ (2501.03262, equations 8 and 9) puts the penalty into the reward, where it affects every earlier token. The KL is that
    of the old policy, because a reward does not change between optimizer steps. The paper normalises the sum once more; here the
    advantage that retention used is not normalised again.
    """
    kl_N = kl_estimate(batch.old_N.detach(), reference_N, settings.kl_estimator)
    return batch.advantages_N - settings.kl_coef * batch.left_to_go_N(kl_N)


def entropy_bonus(entropies_N: Tensor, settings: LossConfig) -> Tensor:
    """Return -entropy_coef H of each token [N], a term of the loss; H is that of the full distribution, with gradient."""
    return -settings.entropy_coef * entropies_N


def with_entropy_advantage(advantages_N: Tensor, entropies_N: Tensor, settings: LossConfig) -> Tensor:
    """Return A + min(alpha H, |A| / kappa) [N], without gradient through H (2506.14758, equations 5 and 6).

    With kappa above 1 the bound preserves the sign of A.
    """
    return advantages_N + torch.minimum(
        settings.entropy_advantage_alpha * entropies_N.detach(), advantages_N.abs() / settings.entropy_advantage_kappa
    )


def truncated_weights(logprobs_N: Tensor, behaviour_N: Tensor, cap: float) -> Tensor:
    """Return min(p / mu, cap) of each token [N], without gradient."""
    return (logprobs_N.detach() - behaviour_N).clamp(-LOG_RATIO_MAX, LOG_RATIO_MAX).exp().clamp(max=cap)


def behaviour_weights(
    old_N: Tensor,
    tempered_N: Tensor,
    behaviour_N: Tensor,
    hot_N: Tensor,
    stored_N: Tensor,
    *,
    correction: str,
    mismatch_cap: float | None,
    is_cap: float,
) -> Tensor | None:
    """Return the importance weight of each token [N], or None without a correction.

    `loss.mismatch_cap` corrects the engine's deviation from the learner: min(pi_old / mu, C), both at the temperature of sampling
    (TIS, Yao et al. 2025). `exploration.correction: truncated-is` corrects the higher temperature: tokens sampled at t' have the weight
    min(pi_old at T = 1 / mu, C), which includes the engine's deviation.

    Args, all [N]: `old_N`: old log-probabilities, at T = 1 or (correction `tempered`) at the temperature of sampling; `tempered_N`: the
    learner's before the update, at the temperature of sampling; `behaviour_N`: the engine's; `hot_N`: whether a token was sampled at
    another temperature than 1; `stored_N`: whether its old log-probability comes from the replay store.
    A replayed token at t' without correction has no stored log-probability at t', so its weight is 1.
    """
    if mismatch_cap is None and correction != "truncated-is":
        return None
    weights_N = torch.ones_like(behaviour_N)
    if mismatch_cap is not None:
        comparable_N = old_N if correction == "tempered" else torch.where(hot_N, tempered_N, old_N)
        known_N = torch.ones_like(hot_N) if correction == "tempered" else ~(hot_N & stored_N)
        weights_N = torch.where(known_N, truncated_weights(comparable_N, behaviour_N, mismatch_cap), weights_N)
    if correction == "truncated-is":
        weights_N = torch.where(hot_N, truncated_weights(old_N, behaviour_N, is_cap), weights_N)
    return weights_N
