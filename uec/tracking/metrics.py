"""Every figure that a run reports: its key, its unit and a line that explains it.

The console, the files, docs/metrics.md and the tests share this list. `python -m uec.tracking.metrics` prints docs/metrics.md.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real

# What stands for a changing part of a key: a number of attempts, an engine, a part of the reward, a bound.
PLACEHOLDERS = {"<k>": r"\d+", "<i>": r"\d+", "<part>": r"\w+", "<x>": r"[\d.]+"}


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure's name, unit ("" for a plain number) and meaning."""

    key: str
    unit: str
    text: str

    @property
    def group(self) -> str:
        """What comes before the slash."""
        return self.key.partition("/")[0]

    def matches(self, key: str) -> bool:
        """Is `key` this figure, its placeholder filled in?"""
        pattern = re.escape(self.key)
        for placeholder, value in PLACEHOLDERS.items():
            pattern = pattern.replace(re.escape(placeholder), value)
        return re.fullmatch(pattern, key) is not None


GROUPS = {
    "step": "The line's number",
    "time": "Where a step's time goes",
    "rollout": "What the engines generated, regular and exploration responses together",
    "reward": "What the graders said of the regular responses; failures are counted over all responses",
    "explore": "Difficult prompts and their exploration",
    "retain": "What was kept for training",
    "policy": "The update on this step's responses",
    "entropy": "True entropy of the policy at T = 1 over the whole vocabulary, on the tokens that were trained on",
    "replay": "The store of earlier trajectories and the update on them",
    "learner": "What the learners did for that update",
    "weights": "The exchange of weights",
    "eval": "Held-out prompts; only in steps with an evaluation",
}

METRICS: tuple[Metric, ...] = (
    Metric("step", "steps", "Training steps done; 0 is the start model"),
    Metric("time/step_s", "s", "The whole step: rollouts, update, weight exchange; no evaluation and no checkpoint"),
    Metric("time/generate_s", "s", "A request of the step, regular or exploration, was at the engines"),
    Metric("time/explore_s", "s", "Of it, only exploration was: what was asked together with regular requests was answered"),
    Metric("time/reward_s", "s", "Only gradings were waited for, no engine was at work"),
    Metric("time/learn_s", "s", "Policy updates, that on replayed trajectories included"),
    Metric("time/sync_s", "s", "Publishing the weights and taking them into every engine"),
    Metric("time/idle_s", "s", "The learners waited for data"),
    Metric("time/engine_idle_s", "s", "Nothing was asked of the engines"),
    Metric("time/controller_s", "s", "CPU time of the driver's own thread during the step; Ray's threads beside it are not counted"),
    Metric("rollout/tokens", "tokens", "Response tokens generated"),
    Metric("rollout/tokens_per_s", "tokens/s", "Response tokens generated a second, from the first request to the last score"),
    Metric("rollout/engine_tokens_per_s_min", "tokens/s", "Of the slowest engine, a second in which it had something to do"),
    Metric("rollout/engine_tokens_per_s_max", "tokens/s", "Of the fastest engine"),
    Metric("rollout/engine_<i>_tokens_per_s", "tokens/s", "Of engine i, counted from 0; only with 2 to 8 engines"),
    Metric("rollout/response_len_mean", "tokens", "Mean length of a regular response"),
    Metric("rollout/truncated_frac", "share", "Regular responses that reached rollout.max_tokens"),
    Metric("rollout/regular_tokens", "tokens", "Response tokens of regular rollouts"),
    Metric("rollout/exploration_tokens", "tokens", "Response tokens of exploration"),
    Metric("rollout/prompts", "prompts", "Prompts sampled; more than train.prompts_per_step where dynamic sampling replaced some"),
    Metric("rollout/version_lag_max", "versions", "Most versions that a trained response's weights were behind; 0 is on-policy"),
    Metric("reward/mean", "", "Mean reward: the weighted sum of its parts"),
    Metric("reward/<part>_mean", "", "Mean of one part of the reward: accuracy, format or one of your own"),
    Metric("reward/error_frac", "share", "Gradings that raised an exception or gave no number"),
    Metric("reward/timeout_frac", "share", "Gradings that took longer than reward.timeout_s"),
    Metric("reward/zero_std_frac", "share", "Groups whose responses all have the same reward: nothing to learn from"),
    Metric("explore/active", "", "1 while exploration goes on, 0 after exploration.until"),
    Metric("explore/difficult_frac", "share", "Prompts of which no regular response was right, or at most difficulty.max_solve_rate"),
    Metric("explore/groups", "groups", "Difficult prompts that were explored"),
    Metric("explore/solved_frac", "share", "Explored prompts of which at least one exploration response was right"),
    Metric("explore/temperature", "", "Mean sampling temperature t' of exploration"),
    Metric("retain/kept_frac", "share", "Responses kept for training, of all that were generated"),
    Metric("retain/regular", "responses", "Regular responses kept"),
    Metric("retain/exploration", "responses", "Exploration responses kept"),
    Metric("retain/overlong_dropped", "responses", "Truncated responses with a positive advantage, dropped"),
    Metric("retain/lost", "responses", "Kept responses that the batch buffer dropped; only with batch.accumulate"),
    Metric("retain/waiting", "responses", "Kept responses in the batch buffer before the update; only with batch.accumulate"),
    Metric("policy/loss", "", "The loss that was minimised, aggregated as loss.aggregation says, a mean over optimizer steps"),
    Metric("policy/entropy", "nats", "True entropy of the policy at T = 1 over the whole vocabulary, a mean over response tokens"),
    Metric("policy/kl", "nats", "KL to the start model by loss.kl_estimator; only with loss.kl_coef above 0"),
    Metric("policy/clip_frac", "share", "Tokens whose ratio was clipped"),
    Metric("policy/dual_clip_frac", "share", "Tokens held back by the dual clip"),
    Metric("policy/ratio_mean", "", "Mean ratio of the policy to the one before the update"),
    Metric("policy/behaviour_weight", "", "Mean importance weight of the behaviour policy's correction; only where there is one"),
    Metric("policy/behaviour_clip_frac", "share", "Tokens whose importance weight was cut off at loss.mismatch_cap"),
    Metric("policy/marked_frac", "share", "Tokens that clip_cov or kl_cov restrained"),
    Metric("policy/grad_norm", "", "Gradient norm before clipping, a mean over optimizer steps"),
    Metric("policy/lr", "", "Learning rate"),
    Metric("policy/entropy_cov", "", "Covariance of log-probability and advantage: positive foretells falling entropy (arXiv 2505.22617)"),
    Metric("policy/rollout_logprob_gap_max", "nats", "Largest log-probability gap between engine and learner on the same token"),
    Metric("policy/rollout_logprob_gap_mean", "nats", "Mean log-probability gap between engine and learner"),
    Metric("entropy/regular", "nats", "Of regular responses"),
    Metric("entropy/exploration", "nats", "Of exploration responses"),
    Metric("entropy/replay", "nats", "Of replayed responses, in a step with a replay update"),
    Metric("entropy/right", "nats", "Of right responses"),
    Metric("entropy/wrong", "nats", "Of wrong responses"),
    Metric("entropy/below_<x>", "share", "Tokens with less than x nats: the distribution of token entropies"),
    Metric("entropy/change", "nats", "entropy/regular less that of the step before: what policy/entropy_cov foretold, sign turned"),
    Metric("replay/size", "trajectories", "Trajectories in the store"),
    Metric("replay/admitted", "trajectories", "Trajectories that entered the store"),
    Metric("replay/used", "trajectories", "Trajectories drawn and trained on; absent without a replay update"),
    Metric("replay/age_mean", "steps", "Mean age of the drawn trajectories"),
    Metric("replay/clip_frac", "share", "Replayed tokens whose ratio was clipped"),
    Metric("replay/ratio_mean", "", "Mean ratio of the policy to the one that was first trained on the replayed token"),
    Metric("replay/loss", "", "Loss of the replay update"),
    Metric("replay/grad_norm", "", "Gradient norm of the replay update, before clipping"),
    Metric("learner/rows", "responses", "Responses trained on"),
    Metric("learner/tokens", "tokens", "Prompt and response tokens of them"),
    Metric("learner/padding_frac", "share", "Padding in what was forwarded"),
    Metric("learner/micro_batches", "micro-batches", "Forward and backward passes of a rank"),
    Metric("learner/optimizer_steps", "steps", "Optimizer steps taken; absent if nothing was kept"),
    Metric("learner/forward_s", "s", "Forward passes, on the slowest rank"),
    Metric("learner/backward_s", "s", "Backward passes, on the slowest rank"),
    Metric("learner/optimizer_s", "s", "Optimizer steps, on the slowest rank"),
    Metric("weights/version", "", "Version of the weights that the engines hold after the step"),
    Metric("weights/bytes", "bytes", "Size of what was published"),
    Metric("weights/probe_gap", "nats", "Largest log-probability gap between engine and learner on the probe; only when it ran"),
    Metric("eval/pass@<k>", "", "Chance that one of k responses is right, unbiased (arXiv 2107.03374), a mean over the held-out prompts"),
    Metric("eval/pass@<k>_low", "", "Lower end of its 95 % bootstrap interval over prompts"),
    Metric("eval/pass@<k>_high", "", "Upper end of its 95 % bootstrap interval over prompts"),
    Metric("eval/<part>_mean", "", "Mean of one part of the reward over all held-out responses"),
    Metric("eval/entropy", "nats", "True entropy of the policy at T = 1 on the held-out responses"),
    Metric("eval/response_len_mean", "tokens", "Mean length of a held-out response"),
    Metric("eval/truncated_frac", "share", "Held-out responses that reached rollout.max_tokens"),
)


def describe(key: str) -> Metric | None:
    """The figure that a key of metrics.jsonl belongs to; None if the list has none."""
    return next((metric for metric in METRICS if metric.matches(key)), None)


def finite(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Leave out None, NaN and infinity: a missing figure is absent.

    Numbers of NumPy and 0-d tensors' `.item()` are taken as Python's; anything else raises TypeError with its key.
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
    """The lines of docs/metrics.md."""
    yield "# Metrics"
    yield ""
    yield "`metrics.jsonl` in the run folder holds one JSON object a step with these keys; TensorBoard and wandb get the same."
    yield "Numbers only, always finite: a figure that a step does not have is absent. A share is between 0 and 1."
    for group, title in GROUPS.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield "| key | unit | what it is |"
        yield "|---|---|---|"
        for metric in METRICS:
            if metric.group == group:
                yield f"| `{metric.key}` | {metric.unit} | {metric.text} |"


if __name__ == "__main__":
    print("\n".join(glossary()))
