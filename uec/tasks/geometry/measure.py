"""Measurement of an initial model of the geometry task, on images that it was not trained on."""

from collections import defaultdict
from dataclasses import dataclass, replace

import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from uec.eval.pass_at_k import pass_at_k
from uec.tasks.geometry.data import KINDS, MAX_RESPONSE_TOKENS, Problem
from uec.tasks.geometry.recipe import prompt_text
from uec.tasks.geometry.reward import score
from uec.tasks.sample import cut, sample_batch

GROUP = 8
"""G of the default run: a prompt with no right response among so many is difficult."""
LARGEST_BATCH = 512
"""Responses sampled at once."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Shares and means over problems, at T = 1."""

    problems: int
    samples: int  # responses to each
    pass_at: dict[int, float]  # k -> pass@k by the derivation
    pass_at_by_kind: dict[str, dict[int, float]]
    answer: float  # share of responses with the right answer, whatever the derivation
    answer_by_kind: dict[str, float]
    swapped: float  # share right by the derivation, with another problem's image
    swapped_answer: float  # share right by the answer, with another problem's image
    entropy: float  # nats per response token, of the full distribution
    difficult: float  # expected share of prompts with no right response among GROUP


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The numbers of right responses to each problem."""

    derived: list[int]  # right by the derivation
    answered: list[int]  # right by the answer
    entropy: float  # nats per response token


def measure(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    problems: list[Problem],
    samples: int = 16,
    ks: tuple[int, ...] = (1, 8, 16),
    seed: int = 0,
) -> Metrics:
    """Sample `samples` responses to each problem at T = 1, at least max(ks) and GROUP, and return the metrics."""
    verdicts = judge(model, processor, problems, samples, 1.0, seed)
    swapped = judge(model, processor, swap_images(problems), samples, 1.0, seed)

    def pass_at(counts: list[int], k: int, kind: str | None = None) -> float:
        values = [pass_at_k(samples, c, k) for c, problem in zip(counts, problems, strict=True) if kind in (None, problem.kind)]
        return sum(values) / len(values)

    kinds = [kind for kind in KINDS if any(problem.kind == kind for problem in problems)]
    return Metrics(
        problems=len(problems),
        samples=samples,
        pass_at={k: pass_at(verdicts.derived, k) for k in ks},
        pass_at_by_kind={kind: {k: pass_at(verdicts.derived, k, kind) for k in ks} for kind in kinds},
        answer=pass_at(verdicts.answered, 1),
        answer_by_kind={kind: pass_at(verdicts.answered, 1, kind) for kind in kinds},
        swapped=pass_at(swapped.derived, 1),
        swapped_answer=pass_at(swapped.answered, 1),
        entropy=verdicts.entropy,
        difficult=1 - pass_at(verdicts.derived, GROUP),
    )


def swap_images(problems: list[Problem]) -> list[Problem]:
    """Return each problem with the image of another one that has the same question and size.

    Responses to these show how far the text alone leads.
    """
    alike = _group(problems)
    swapped = list(problems)
    for indices in alike:
        for index, other in zip(indices, indices[1:] + indices[:1], strict=True):
            swapped[index] = replace(problems[index], image=problems[other].image)
    return swapped


def judge(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    problems: list[Problem],
    samples: int,
    temperature: float,
    seed: int,
) -> Verdicts:
    """Sample and grade `samples` responses to each problem."""
    generator = torch.Generator().manual_seed(seed)
    eos = processor.tokenizer.eos_token_id
    derived, answered = [0] * len(problems), [0] * len(problems)
    entropy_sum, token_count = 0.0, 0
    for alike in _group(problems):
        at_once = max(1, LARGEST_BATCH // samples)
        for indices in (alike[start : start + at_once] for start in range(0, len(alike), at_once)):
            repeated = [index for index in indices for _ in range(samples)]
            prompts = processor(
                text=[prompt_text(processor, problems[index].question) for index in repeated],
                images=[problems[index].image for index in repeated],
                return_tensors="pt",
            )
            tokens_BT, entropy_BT, alive_BT = sample_batch(model, prompts, MAX_RESPONSE_TOKENS, temperature, eos, generator)
            entropy_sum += float((entropy_BT * alive_BT).sum())
            token_count += int(alive_BT.sum())
            for index, response in zip(repeated, cut(tokens_BT, alive_BT, eos), strict=True):
                text = str(processor.tokenizer.decode(response, skip_special_tokens=True))
                parts = score(text, str(problems[index].answer), solution=problems[index].solution)
                derived[index] += int(parts["accuracy"])
                answered[index] += int(parts["answer"])
    return Verdicts(derived, answered, entropy_sum / token_count)


def _group(problems: list[Problem]) -> list[list[int]]:
    """Return groups of indices of problems whose prompts have the same length."""
    alike: dict[tuple[str, tuple[int, int]], list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        alike[problem.question, problem.image.size].append(index)
    return list(alike.values())
