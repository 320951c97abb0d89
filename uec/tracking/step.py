"""The metrics of a step's rollouts: `rollout/`, `reward/`, `explore/` and `retain/` (docs/metrics.md)."""

from collections.abc import Sequence
from statistics import fmean

from uec.types import EngineUse, Kind, PromptRollouts, StepRollouts, uniform

EACH_ENGINE = 8  # engines up to which each has a metric


def rollout_metrics(rollouts: StepRollouts, retained: list[PromptRollouts], version: int, solved_at: float) -> dict[str, float]:
    """Return the metrics of a step's rollouts; a mean over nothing is left out.

    `retained`: the prompts that are trained on, with what was kept. `version`: of the weights that will be trained.
    """
    prompts, time = rollouts.prompts, rollouts.time
    regular = [sample for prompt in prompts for sample in prompt.regular]
    exploration = [sample for prompt in prompts for sample in prompt.exploration or ()]
    every = regular + exploration
    regular_tokens = sum(sample.response_tokens for sample in regular)
    exploration_tokens = sum(sample.response_tokens for sample in exploration)
    explored = [prompt.exploration for prompt in prompts if prompt.exploration]
    kept = [sample for prompt in retained for sample in prompt.kept]
    kept_regular = sum(sample.kind is Kind.REGULAR for sample in kept)
    metrics = {
        "time/generate_s": time.generate + time.explore,
        "time/explore_s": time.explore,
        "time/reward_s": time.reward,
        "explore/active": float(rollouts.exploring),
        "rollout/tokens": float(regular_tokens + exploration_tokens),
        "rollout/regular_tokens": float(regular_tokens),
        "rollout/exploration_tokens": float(exploration_tokens),
        "rollout/tokens_per_s": (regular_tokens + exploration_tokens) / time.clock,
        "rollout/response_len_mean": fmean([sample.response_tokens for sample in regular]),
        "rollout/truncated_frac": fmean([sample.truncated for sample in regular]),
        "rollout/prompts": float(len(prompts)),
        "rollout/version_lag_max": float(version - min(sample.version for sample in every)),
        "reward/mean": fmean([sample.reward for sample in regular]),
        "reward/accuracy_mean": fmean([sample.accuracy for sample in regular]),
        "reward/error_frac": fmean([sample.error is not None for sample in every]),
        "reward/timeout_frac": fmean([sample.timed_out for sample in every]),
        "reward/zero_std_frac": fmean([uniform(prompt.regular) for prompt in prompts]),
        "explore/difficult_frac": fmean([prompt.difficult for prompt in prompts]),
        "explore/groups": float(len(explored)),
        "retain/kept_frac": len(kept) / len(every),
        "retain/regular": float(kept_regular),
        "retain/exploration": float(len(kept) - kept_regular),
        "retain/overlong_dropped": float(sum(prompt.overlong_dropped for prompt in retained)),
    }
    metrics |= engine_metrics(time.engines)
    if explored:
        metrics["explore/solved_frac"] = fmean([any(sample.right(solved_at) for sample in group) for group in explored])
        metrics["explore/temperature"] = fmean([group[0].temperature for group in explored])
    for part in sorted({name for sample in regular for name in sample.parts} - {"accuracy"}):
        metrics[f"reward/{part}_mean"] = fmean([sample.parts.get(part, 0.0) for sample in regular])
    return metrics


def engine_metrics(engines: Sequence[EngineUse]) -> dict[str, float]:
    """Return the rates of the slowest and the fastest engine that had work, and of each engine where there are 2 to EACH_ENGINE."""
    rates = {number: use.tokens_per_s for number, use in enumerate(engines)}
    known = {number: rate for number, rate in rates.items() if rate is not None}
    if not known:
        return {}
    metrics = {"rollout/engine_tokens_per_s_min": min(known.values()), "rollout/engine_tokens_per_s_max": max(known.values())}
    if 1 < len(engines) <= EACH_ENGINE:
        metrics |= {f"rollout/engine_{number}_tokens_per_s": rate for number, rate in known.items()}
    return metrics


