"""Check the conflicts between parts of an algorithm; each message names the fields and the fix."""

from collections.abc import Iterator

from uec.config.schema import Config

POLICY_LOSSES = ("ppo_clip", "gspo", "cispo", "clip_cov", "kl_cov")
"""The built-in policy losses. These names repeat those of uec.algorithm.losses.policy, which imports torch."""
GROUP_BASELINES = ("group", "centred", "rloo", "batch_with_baseline")
"""Estimators that give the only response of a group an advantage of 0."""
SEQUENCE_CLIP = 0.05
"""Largest useful clip range of a response's ratio: the ratio is a geometric mean over tokens and stays close to 1."""


def algorithm_conflicts(cfg: Config) -> Iterator[str]:
    """Yield all problems, one line each."""
    yield from _exploration(cfg)
    yield from _sampling(cfg)
    yield from _loss(cfg)
    yield from _replay(cfg)


def _exploration(cfg: Config) -> Iterator[str]:
    exploration = cfg.exploration
    until = exploration.until
    if isinstance(until, bool) or not (until == "auto" or isinstance(until, (int, float)) and 0 < until <= 1):
        yield f"exploration.until={until!r} must be a share of the run, above 0 and at most 1, or auto"
    if not exploration.enabled:
        if exploration.correction != "none":
            yield (
                f"exploration.correction={exploration.correction} with exploration.enabled=false corrects nothing; "
                "set exploration.correction=none, or enable exploration"
            )
        return
    if exploration.schedule != "constant" and exploration.temperature_end is None:
        yield f"exploration.schedule={exploration.schedule} has no end: set exploration.temperature_end, or schedule=constant"
    if exploration.schedule == "constant" and exploration.temperature_end is not None:
        yield (
            f"exploration.temperature_end={exploration.temperature_end:g} has no effect with exploration.schedule=constant; "
            "choose linear, failures or entropy, or remove it"
        )
    if exploration.temperature_end is not None and exploration.temperature_end < cfg.rollout.temperature:
        yield (
            f"exploration.temperature_end={exploration.temperature_end:g} is below rollout.temperature={cfg.rollout.temperature:g}: "
            "exploration would end colder than regular rollouts; raise it"
        )
    if exploration.rounds > exploration.n:
        yield f"exploration.rounds={exploration.rounds} is more than exploration.n={exploration.n}: a round needs a response; lower it"
    single = exploration.rounds == exploration.n and exploration.group == "own"
    if cfg.advantage.estimator in GROUP_BASELINES and single:
        yield (
            f"exploration.rounds={exploration.rounds} of exploration.n={exploration.n} can leave a single response, for which "
            f"advantage.estimator={cfg.advantage.estimator} has no baseline; lower the rounds, or set exploration.group=joint"
        )
    if exploration.keep == "positive" and exploration.threshold != type(exploration)().threshold:
        yield (
            f"exploration.threshold={exploration.threshold:g} has no effect with exploration.keep=positive; "
            "set exploration.keep=informative, or remove the threshold"
        )


def _sampling(cfg: Config) -> Iterator[str]:
    if cfg.dynamic_sampling.enabled and cfg.retention.min_abs_advantage is None:
        yield (
            "dynamic_sampling.enabled=true replaces the groups that retention.min_abs_advantage=null would keep; "
            "set min_abs_advantage to 0, or dynamic_sampling.enabled=false"
        )
    if cfg.dynamic_sampling.enabled and int(cfg.dynamic_sampling.max_prompts * cfg.train.prompts_per_step) <= cfg.train.prompts_per_step:
        yield (
            f"dynamic_sampling.max_prompts={cfg.dynamic_sampling.max_prompts:g} times train.prompts_per_step={cfg.train.prompts_per_step} "
            "leaves no prompt to replace one with; raise it, or set dynamic_sampling.enabled=false"
        )
    responses = cfg.rollout.n * cfg.rollout.rounds
    if cfg.retention.subset is not None and cfg.retention.subset > responses:
        yield f"retention.subset={cfg.retention.subset} is more than rollout.n x rollout.rounds = {responses}; lower it"
    if cfg.rollout.until == "balanced" and cfg.rollout.rounds == 1:
        yield "rollout.until=balanced has no effect with rollout.rounds=1; raise rounds, or set rollout.until=right"


def _loss(cfg: Config) -> Iterator[str]:
    loss = cfg.loss
    if loss.policy == "gspo" and max(loss.clip_low, loss.clip_high) > SEQUENCE_CLIP:
        yield (
            f"loss.policy=gspo with loss.clip_low={loss.clip_low:g}, loss.clip_high={loss.clip_high:g}: this range is for the ratio of a "
            f"token; the ratio of a response needs at most {SEQUENCE_CLIP:g}; set 3e-4 and 4e-4 (paper)"
        )
    if loss.policy in ("gspo", "cispo", "kl_cov") and loss.dual_clip is not None:
        yield f"loss.policy={loss.policy} has no dual clip, but loss.dual_clip={loss.dual_clip:g}; set loss.dual_clip=null"
    if loss.policy == "clip_cov" and loss.cov_range is None:
        yield "loss.policy=clip_cov selects tokens from loss.cov_range, which is null; set e.g. [1.0, 5.0]"
    if loss.policy == "kl_cov" and loss.cov_range is not None:
        yield f"loss.policy=kl_cov selects the tokens of highest covariance, so loss.cov_range={loss.cov_range} is unused; set it to null"
    if loss.cov_range is not None and (len(loss.cov_range) != 2 or loss.cov_range[0] >= loss.cov_range[1]):
        yield f"loss.cov_range={loss.cov_range} must be two numbers, the lower first, e.g. [1.0, 5.0]"
    if loss.kl_in == "reward" and loss.kl_coef == 0:
        yield "loss.kl_in=reward with loss.kl_coef=0 has no KL term; raise loss.kl_coef, or set loss.kl_in=loss"
    if loss.kl_in == "loss" and loss.kl_estimator == "k1" and loss.kl_coef > 0:
        yield (
            "loss.kl_estimator=k1 with loss.kl_in=loss has a gradient whose mean is zero, so it has no effect; "
            "take k2 or k3, or loss.kl_in=reward"
        )


def _replay(cfg: Config) -> Iterator[str]:
    replay = cfg.replay
    if not replay.enabled:
        return
    if replay.max_age is not None and replay.max_age < replay.every - 1:
        yield (
            f"replay.max_age={replay.max_age} with replay.every={replay.every}: trajectories of the first steps of every {replay.every} "
            f"become too old before they can be drawn; raise max_age to {replay.every - 1} or lower every"
        )
