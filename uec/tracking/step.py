"""What a step's rollouts say: the `rollout/`, `reward/`, `explore/` and `retain/` metrics (docs/metrics.md)."""

from collections.abc import Sequence
from statistics import fmean

from uec.algorithm.retention import KeptResponses, StepRollouts, uniform
from uec.types import EngineUse

EACH_ENGINE = 8  # engines up to which each has a figure of its own


def rollout_metrics(rolled: StepRollouts, retained: list[KeptResponses], version: int, solved_at: float) -> dict[str, float]:
    """The metrics of a step's rollouts; a mean over nothing is left out. `retained`: of the prompts that are trained on.

    `version`: of the weights that are to be trained.
    """
    prompts, spent = rolled.prompts, rolled.spent
    regular = [t for prompt in prompts for t in prompt.regular.trajectories]
    exploration = [t for prompt in prompts if prompt.exploration for t in prompt.exploration.trajectories]
    every = regular + exploration
    scores = [t.score for t in every]
    regular_tokens = sum(t.score.response_tokens for t in regular)
    exploration_tokens = sum(t.score.response_tokens for t in exploration)
    explored = [prompt.exploration for prompt in prompts if prompt.exploration]
    metrics = {
        "time/generate_s": spent.generate + spent.explore,
        "time/explore_s": spent.explore,
        "time/reward_s": spent.reward,
        "explore/active": float(rolled.exploring),
        "rollout/tokens": float(regular_tokens + exploration_tokens),
        "rollout/regular_tokens": float(regular_tokens),
        "rollout/exploration_tokens": float(exploration_tokens),
        "rollout/tokens_per_s": (regular_tokens + exploration_tokens) / spent.clock,
        "rollout/response_len_mean": fmean([t.score.response_tokens for t in regular]),
        "rollout/truncated_frac": fmean([t.score.truncated for t in regular]),
        "rollout/prompts": float(len(prompts)),
        "rollout/version_lag_max": float(version - min(score.version for score in scores)),
        "reward/mean": fmean([t.score.reward for t in regular]),
        "reward/accuracy_mean": fmean([t.score.accuracy for t in regular]),
        "reward/error_frac": fmean([score.error is not None for score in scores]),
        "reward/timeout_frac": fmean([score.timed_out for score in scores]),
        "reward/zero_std_frac": fmean([uniform(prompt.regular.trajectories) for prompt in prompts]),
        "explore/difficult_frac": fmean([prompt.difficult for prompt in prompts]),
        "explore/groups": float(len(explored)),
        "retain/kept_frac": sum(len(kept.kept) for kept in retained) / len(every),
        "retain/regular": float(sum(kept.regular for kept in retained)),
        "retain/exploration": float(sum(kept.exploration for kept in retained)),
        "retain/overlong_dropped": float(sum(kept.overlong_dropped for kept in retained)),
    }
    metrics |= engine_metrics(spent.engines)
    if explored:
        metrics["explore/solved_frac"] = fmean([group.right(solved_at) > 0 for group in explored])
        metrics["explore/temperature"] = fmean([group.request.temperature for group in explored])
    for part in sorted({name for t in regular for name in t.score.parts} - {"accuracy"}):
        metrics[f"reward/{part}_mean"] = fmean([t.score.parts.get(part, 0.0) for t in regular])
    return metrics


def engine_metrics(engines: Sequence[EngineUse]) -> dict[str, float]:
    """The slowest and the fastest engine of those that had something to do; and each, where they are few but not alone."""
    rates = {number: use.tokens_per_s for number, use in enumerate(engines)}
    known = {number: rate for number, rate in rates.items() if rate is not None}
    if not known:
        return {}
    metrics = {"rollout/engine_tokens_per_s_min": min(known.values()), "rollout/engine_tokens_per_s_max": max(known.values())}
    if 1 < len(engines) <= EACH_ENGINE:
        metrics |= {f"rollout/engine_{number}_tokens_per_s": rate for number, rate in known.items()}
    return metrics


