"""What a step's rollouts say: the `rollout/`, `reward/`, `explore/` and `retain/` metrics (docs/metrics.md)."""

from statistics import fmean

from uec.algorithm.retention import Retained, Rolled, uniform
from uec.types import Group, Outcome


def rollout_metrics(rolled: Rolled, retained: list[Retained], version: int, solved_at: float) -> dict[str, float]:
    """The metrics of a step's rollouts; a mean over nothing is left out. `retained`: of the prompts that are trained on.

    `version`: of the weights that are to be trained.
    """
    prompts = rolled.prompts
    regular = [t for prompt in prompts for t in prompt.regular.trajectories]
    exploration = [t for prompt in prompts if prompt.exploration for t in prompt.exploration.trajectories]
    every = regular + exploration
    scores = [t.score for t in every]
    regular_tokens = sum(t.score.response_tokens for t in regular)
    exploration_tokens = sum(t.score.response_tokens for t in exploration)
    explored = [prompt.exploration for prompt in prompts if prompt.exploration]
    metrics = {
        "time/generate_s": rolled.last_bundle - rolled.began,
        "time/reward_s": rolled.ended - rolled.last_bundle,
        "explore/active": float(rolled.exploring),
        "rollout/tokens": float(regular_tokens + exploration_tokens),
        "rollout/regular_tokens": float(regular_tokens),
        "rollout/exploration_tokens": float(exploration_tokens),
        "rollout/tokens_per_s": (regular_tokens + exploration_tokens) / (rolled.ended - rolled.began),
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
    if explored:
        metrics["explore/solved_frac"] = fmean([group.right(solved_at) > 0 for group in explored])
        metrics["explore/temperature"] = fmean([group.request.temperature for group in explored])
    for part in sorted({name for t in regular for name in t.score.parts} - {"accuracy"}):
        metrics[f"reward/{part}_mean"] = fmean([t.score.parts.get(part, 0.0) for t in regular])
    return metrics


def outcome(group: Group, solved_at: float) -> Outcome:
    """What the DifficultyActor has to know of a finished group."""
    n = len(group.trajectories)
    return Outcome(
        group.request.prompt, group.request.kind, n, group.right(solved_at), fmean([t.score.accuracy for t in group.trajectories])
    )
