"""From `loss.policy` to a function: a built-in name, `path/to/file.py:name` or `package.module:name`."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from uec.algorithm.losses.cispo import cispo
from uec.algorithm.losses.covariance import clip_cov, kl_cov
from uec.algorithm.losses.gspo import gspo
from uec.algorithm.losses.ppo import ppo_clip
from uec.algorithm.losses.token_batch import Metrics, TokenBatch
from uec.config import Loss
from uec.errors import RunFailed
from uec.imports import load_function

PolicyLoss = Callable[[TokenBatch, Loss], tuple[Tensor, Metrics]]

BUILTIN: dict[str, PolicyLoss] = {"ppo_clip": ppo_clip, "gspo": gspo, "cispo": cispo, "clip_cov": clip_cov, "kl_cov": kl_cov}
MARKING = ("clip_cov", "kl_cov")
"""Those that read `TokenBatch.marked_N`, for which the tokens of a whole optimizer step are ranked first."""
METRICS = ("ratio_mean", "clip_frac", "dual_clip_frac", "marked_frac")
"""The sums that a policy loss may return: those that become `policy/` metrics."""


def load_policy_loss(name: str) -> PolicyLoss:
    """The function that `loss.policy` names. Raises BadInput."""
    if name in BUILTIN:
        return BUILTIN[name]
    wanted = "def NAME(batch: TokenBatch, settings: Loss) -> tuple[Tensor, dict]"
    function = load_function("loss.policy", name, tuple(BUILTIN), wanted, 2)

    def checked(batch: TokenBatch, settings: Loss) -> tuple[Tensor, Metrics]:
        return _checked(name, function(batch, settings), len(batch.logprobs_N))

    return checked


def _checked(name: str, found: Any, tokens: int) -> tuple[Tensor, Metrics]:
    """What a user's policy loss returned. Raises RunFailed if it is no loss a token, or has sums that are no metric."""
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor) and isinstance(found[1], dict)):
        raise RunFailed(f"loss.policy={name} returned {type(found).__name__}, not (loss of each token [N], sums by name)")
    loss_N, sums = found
    if loss_N.shape != (tokens,):
        raise RunFailed(
            f"loss.policy={name} returned a loss of shape {list(loss_N.shape)} for {tokens} tokens; it has to be one number a token, "
            "[N]: loss.aggregation makes the mean"
        )
    unknown = [str(key) for key in sums if key not in METRICS]
    if unknown:
        raise RunFailed(f"loss.policy={name} returned {', '.join(unknown)}, which is no metric; it may return {', '.join(METRICS)}")
    return loss_N, sums
