"""Metrics of predictions: for each model with its interval, the paired difference to the first model, over the set and its subsets."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uec.eval.estimate import Estimate, PromptValues, difference, estimate
from uec.eval.pass_at_k import majority_at_k, pass_at_k
from uec.eval.predictions import RIGHT, Groups, Prediction, count_right

WeightedMean = tuple[float, float]
"""A prompt's mean, and its weight in the metric."""

Measure = Callable[[list[Prediction]], WeightedMean | None]
"""Computes a prompt's value from its responses; None if it has none."""


@dataclass(frozen=True)
class MetricRow:
    """A row of the table."""

    name: str
    values: list[Estimate | None]  # by model
    differences: list[Estimate | None]  # to the first model; None for the first


@dataclass(frozen=True)
class SubsetMetrics:
    """The metrics of the whole set or of a subset."""

    title: str
    prompts: int  # of the first model
    metrics: list[MetricRow]


def measures(models: Sequence[Groups], k: Sequence[int], votes: bool) -> dict[str, Measure]:
    """Return the measures that apply to these models, by name. `votes`: the grader compares answers, so majority@k is defined."""
    found: dict[str, Measure] = {f"pass@{number}": _pass_at(number) for number in k}
    if votes:
        found |= {f"majority@{number}": _majority_at(number) for number in k if number > 1}
    responses = [one for groups in models for group in groups.values() for one in group]
    if any(0 < one.accuracy < RIGHT for one in responses):
        found["mean accuracy"] = _mean(lambda one: one.accuracy)  # with partial credit, it differs from pass@1
    for part in sorted({part for one in responses for part in one.parts} - {"accuracy"}):
        found[f"mean {part}"] = _reward_part(part)
    if any(one.entropy is not None for one in responses):
        found["entropy"] = _entropy
    found["response length"] = _mean(lambda one: float(one.tokens))
    found["truncated"] = _mean(lambda one: float(one.truncated))
    if any(one.error is not None for one in responses):
        found["grading failed"] = _mean(lambda one: float(one.error is not None))
    return found


def measure_subsets(
    models: Sequence[Groups], subsets: Sequence[tuple[str, list[int]]], measured: dict[str, Measure]
) -> list[SubsetMetrics]:
    """Compute the metrics of each subset, given as a title and its prompts."""
    return [
        SubsetMetrics(
            title,
            sum(prompt in models[0] for prompt in prompts),
            [_metric_row(name, [_values(groups, prompts, measure) for groups in models]) for name, measure in measured.items()],
        )
        for title, prompts in subsets
    ]


def _metric_row(name: str, values: list[dict[int, WeightedMean]]) -> MetricRow:
    """`values`: each model's, by prompt. A difference is taken over the prompts that both models have."""
    first = values[0]
    differences: list[Estimate | None] = [None]
    for other in values[1:]:
        shared = sorted(first.keys() & other.keys())
        differences.append(difference(_prompt_values(first, shared), _prompt_values(other, shared)))
    return MetricRow(name, [estimate(_prompt_values(model, sorted(model))) for model in values], differences)


def _prompt_values(values: dict[int, WeightedMean], prompts: Sequence[int]) -> PromptValues:
    return PromptValues.of([values[prompt][0] for prompt in prompts], [values[prompt][1] for prompt in prompts])


def _values(groups: Groups, prompts: Sequence[int], measure: Measure) -> dict[int, WeightedMean]:
    found = {prompt: measure(groups[prompt]) for prompt in prompts if prompt in groups}
    return {prompt: value for prompt, value in found.items() if value is not None}


def _pass_at(k: int) -> Measure:
    return lambda group: (pass_at_k(len(group), count_right(group), k), 1.0)


def _majority_at(k: int) -> Measure:
    return lambda group: (majority_at_k([one.accuracy >= RIGHT for one in group], [one.extracted for one in group], k), 1.0)


def _mean(of: Callable[[Prediction], float]) -> Measure:
    return lambda group: (math.fsum(map(of, group)) / len(group), 1.0)


def _reward_part(part: str) -> Measure:
    def measure(group: list[Prediction]) -> WeightedMean | None:
        values = [one.parts[part] for one in group if part in one.parts]
        return (math.fsum(values) / len(values), 1.0) if values else None

    return measure


def _entropy(group: list[Prediction]) -> WeightedMean | None:
    """Return the first response's entropy, weighted by its tokens: the metric is a mean over tokens, as in training."""
    return None if group[0].entropy is None else (group[0].entropy, float(group[0].tokens))
