"""Every metric that a run reports: its key, its unit and an explanation.

The console, the files, docs/metrics.md and the tests share this list. `python -m uec.tracking.metrics` prints docs/metrics.md.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real

# Placeholders for a variable part of a key: a number of attempts, an engine, a part of the reward, a bound.
PLACEHOLDERS = {"<k>": r"\d+", "<i>": r"\d+", "<part>": r"\w+", "<x>": r"[\d.]+"}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's key, unit ("" for a plain number) and meaning."""

    key: str
    unit: str
    text: str

    @property
    def group(self) -> str:
        """Return the part of the key before the slash."""
        return self.key.partition("/")[0]

    def matches(self, key: str) -> bool:
        """Return whether `key` is this metric, with its placeholder filled in."""
        pattern = re.escape(self.key)
        for placeholder, value in PLACEHOLDERS.items():
            pattern = pattern.replace(re.escape(placeholder), value)
        return re.fullmatch(pattern, key) is not None


GROUPS = {
    "step": "Step",
    "time": "Time of a step",
    "rollout": "Rollouts, regular and exploration together",
    "reward": "Rewards of regular responses; failures count over all responses",
    "explore": "Difficult prompts and their exploration",
    "retain": "Responses kept for training",
    "policy": "The policy update on this step's responses",
    "entropy": "True entropy of the policy at T = 1 over the whole vocabulary, on trained tokens",
    "replay": "The replay store and the replay update",
    "learner": "The learners' work in the policy update",
    "weights": "Weight sync",
    "eval": "Held-out prompts; only in steps with an evaluation",
}

METRICS: tuple[Metric, ...] = (
    Metric("step", "steps", "Completed training steps; 0 is the initial model"),
    Metric("time/step_s", "s", "The whole step without evaluation and checkpoint"),
    Metric("time/generate_s", "s", "Time in which the engines had a regular or exploration request of the step"),
    Metric("time/explore_s", "s", "Part of time/generate_s in which the engines had only exploration requests"),
    Metric("time/reward_s", "s", "Time of waiting for gradings while the engines had no request"),
    Metric("time/learn_s", "s", "Policy updates, including the replay update"),
    Metric("time/sync_s", "s", "Weight sync: publish the weights and load them into every engine"),
    Metric("time/idle_s", "s", "Time in which the learners waited for data"),
    Metric("time/engine_idle_s", "s", "Time in which the engines had no request"),
    Metric("time/controller_s", "s", "CPU time of the driver's main thread, without Ray's threads"),
    Metric("rollout/tokens", "tokens", "Response tokens generated"),
    Metric("rollout/tokens_per_s", "tokens/s", "Response tokens per second, from the first request to the last reward"),
    Metric("rollout/engine_tokens_per_s_min", "tokens/s", "Rate of the slowest engine while it had requests"),
    Metric("rollout/engine_tokens_per_s_max", "tokens/s", "Rate of the fastest engine while it had requests"),
    Metric("rollout/engine_<i>_tokens_per_s", "tokens/s", "Rate of engine i, counted from 0; only with 2 to 8 engines"),
    Metric("rollout/response_len_mean", "tokens", "Mean length of a regular response"),
    Metric("rollout/truncated_frac", "share", "Regular responses that reached rollout.max_tokens"),
    Metric("rollout/regular_tokens", "tokens", "Response tokens of regular rollouts"),
    Metric("rollout/exploration_tokens", "tokens", "Response tokens of exploration"),
    Metric("rollout/prompts", "prompts", "Prompts sampled; dynamic sampling may need more than train.prompts_per_step"),
    Metric("rollout/version_lag_max", "versions", "Largest lag of a trained response's weight version; 0 is on-policy"),
    Metric("reward/mean", "", "Mean reward: the weighted sum of its parts"),
    Metric("reward/<part>_mean", "", "Mean of one reward part: accuracy, format or a user-defined part"),
    Metric("reward/error_frac", "share", "Gradings that raised an exception or returned no number"),
    Metric("reward/timeout_frac", "share", "Gradings that took longer than reward.timeout_s"),
    Metric("reward/zero_std_frac", "share", "Groups without a learning signal: all rewards are equal"),
    Metric("explore/active", "", "1 while exploration is active, 0 after exploration.until"),
    Metric("explore/difficult_frac", "share", "Prompts whose share of right regular responses is at most difficulty.max_solve_rate"),
    Metric("explore/groups", "groups", "Difficult prompts that were explored"),
    Metric("explore/solved_frac", "share", "Explored prompts with at least one right exploration response"),
    Metric("explore/temperature", "", "Mean sampling temperature t' of exploration"),
    Metric("retain/kept_frac", "share", "Generated responses that were kept for training"),
    Metric("retain/regular", "responses", "Regular responses kept"),
    Metric("retain/exploration", "responses", "Exploration responses kept"),
    Metric("retain/overlong_dropped", "responses", "Dropped truncated responses with a positive advantage"),
    Metric("retain/lost", "responses", "Kept responses that the batch buffer dropped; only with batch.accumulate"),
    Metric("retain/waiting", "responses", "Kept responses in the batch buffer before the update; only with batch.accumulate"),
    Metric("policy/loss", "", "Loss aggregated by loss.aggregation, a mean over optimizer steps"),
    Metric("policy/entropy", "nats", "True entropy of the policy at T = 1 over the whole vocabulary, a mean over response tokens"),
    Metric("policy/kl", "nats", "KL to the initial model by loss.kl_estimator; only with loss.kl_coef above 0"),
    Metric("policy/clip_frac", "share", "Tokens whose ratio was clipped"),
    Metric("policy/dual_clip_frac", "share", "Tokens limited by the dual clip"),
    Metric("policy/ratio_mean", "", "Mean ratio of the policy to the policy before the update"),
    Metric("policy/behaviour_weight", "", "Mean importance weight of the behaviour policy correction; only if enabled"),
    Metric("policy/behaviour_clip_frac", "share", "Tokens whose importance weight was capped at loss.mismatch_cap"),
    Metric("policy/marked_frac", "share", "Tokens restrained by clip_cov or kl_cov"),
    Metric("policy/grad_norm", "", "Gradient norm before clipping, a mean over optimizer steps"),
    Metric("policy/lr", "", "Learning rate"),
    Metric("policy/entropy_cov", "", "Covariance of log-probability and advantage; positive predicts falling entropy (arXiv 2505.22617)"),
    Metric("policy/rollout_logprob_gap_max", "nats", "Largest log-probability gap between engine and learner on a token"),
    Metric("policy/rollout_logprob_gap_mean", "nats", "Mean log-probability gap between engine and learner"),
    Metric("entropy/regular", "nats", "Entropy on regular responses"),
    Metric("entropy/exploration", "nats", "Entropy on exploration responses"),
    Metric("entropy/replay", "nats", "Entropy on replayed responses; only with a replay update"),
    Metric("entropy/right", "nats", "Entropy on right responses"),
    Metric("entropy/wrong", "nats", "Entropy on wrong responses"),
    Metric("entropy/below_<x>", "share", "Tokens with an entropy below x nats"),
    Metric("entropy/change", "nats", "Change of entropy/regular since the last step; policy/entropy_cov predicts it, with opposite sign"),
    Metric("replay/size", "trajectories", "Trajectories in the replay store"),
    Metric("replay/admitted", "trajectories", "Trajectories added to the store"),
    Metric("replay/used", "trajectories", "Trajectories drawn for a replay update"),
    Metric("replay/age_mean", "steps", "Mean age of drawn trajectories"),
    Metric("replay/clip_frac", "share", "Replayed tokens whose ratio was clipped"),
    Metric("replay/ratio_mean", "", "Mean ratio of the policy to the one first trained on the replayed token"),
    Metric("replay/loss", "", "Loss of the replay update"),
    Metric("replay/grad_norm", "", "Gradient norm of the replay update before clipping"),
    Metric("replay/skipped_steps", "steps", "Optimizer steps of the replay update left out, because loss or gradient was not finite"),
    Metric("learner/rows", "responses", "Responses trained on"),
    Metric("learner/tokens", "tokens", "Prompt and response tokens of these responses"),
    Metric("learner/padding_frac", "share", "Padding in the forwarded tokens"),
    Metric("learner/micro_batches", "micro-batches", "Forward and backward passes of a rank"),
    Metric("learner/optimizer_steps", "steps", "Optimizer steps taken; absent if nothing was kept"),
    Metric("learner/skipped_steps", "steps", "Optimizer steps left out, because loss or gradient was not finite"),
    Metric("learner/forward_s", "s", "Forward passes, on the slowest rank"),
    Metric("learner/backward_s", "s", "Backward passes, on the slowest rank"),
    Metric("learner/optimizer_s", "s", "Optimizer steps, on the slowest rank"),
    Metric("weights/version", "", "Weight version of the engines after the step"),
    Metric("weights/bytes", "bytes", "Size of the weight update"),
    Metric("weights/probe_gap", "nats", "Largest log-probability gap between engine and learner on the probe; only with a probe"),
    Metric("weights/probe_gap_mean", "nats", "Mean log-probability gap of the engine that is furthest off; only with a probe"),
    Metric("eval/pass@<k>", "", "Chance that at least one of k responses is right, unbiased (arXiv 2107.03374); mean over prompts"),
    Metric("eval/pass@<k>_low", "", "Lower end of its 95 % bootstrap interval over prompts"),
    Metric("eval/pass@<k>_high", "", "Upper end of its 95 % bootstrap interval over prompts"),
    Metric("eval/<part>_mean", "", "Mean of one reward part over all held-out responses"),
    Metric("eval/entropy", "nats", "True entropy of the policy at T = 1 on the held-out responses"),
    Metric("eval/response_len_mean", "tokens", "Mean length of a held-out response"),
    Metric("eval/truncated_frac", "share", "Held-out responses that reached rollout.max_tokens"),
)


def describe(key: str) -> Metric | None:
    """Return the metric that a key of metrics.jsonl belongs to; None if it is not listed."""
    return next((metric for metric in METRICS if metric.matches(key)), None)


def finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Return the metrics as Python numbers, without those that are None, NaN or infinity.

    NumPy numbers are converted; anything else that is no number raises TypeError with its key.
    """
    kept: dict[str, float] = {}
    for key, value in metrics.items():
        if value is None:
            continue
        if isinstance(value, Integral):
            kept[key] = int(value)
        elif isinstance(value, Real):
            if math.isfinite(value):
                kept[key] = float(value)
        else:
            raise TypeError(f"metric {key!r} must be a number, not {type(value).__name__}")
    return kept


def glossary() -> Iterator[str]:
    """Yield the lines of docs/metrics.md."""
    yield "# Metrics"
    yield ""
    yield "`metrics.jsonl` in the run folder holds one JSON object a step with these keys; TensorBoard and wandb get the same."
    yield "All values are finite numbers; a metric that does not apply to a step is absent. A share is between 0 and 1."
    for group, title in GROUPS.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield "| key | unit | meaning |"
        yield "|---|---|---|"
        for metric in METRICS:
            if metric.group == group:
                yield f"| `{metric.key}` | {metric.unit} | {metric.text} |"


if __name__ == "__main__":
    print("\n".join(glossary()))
