"""Measurement of an initial model of Countdown, on problems that it was not trained on."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from uec.eval.pass_at_k import pass_at_k
from uec.tasks.countdown.data import HINT, MAX_RESPONSE_TOKENS, Problem
from uec.tasks.countdown.reward import score
from uec.tasks.sample import sample

GROUP = 8
"""G of the default run: a prompt with no right response among so many is difficult."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Shares and means over problems."""

    problems: int
    samples: int  # responses to each
    pass_at: dict[int, float]  # k -> pass@k at T = 1
    pass_at_by_kind: dict[str, dict[int, float]]
    entropy: float  # nats per response token, of the full distribution
    difficult: float  # expected share of prompts with no right response among GROUP
    mode: dict[float, float]  # temperature -> P(`?`) as first token, on prompts that need multiplication
    mode_success: dict[float, float]  # temperature -> share of right responses behind `?`, same prompts


def measure(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    problems: list[Problem],
    samples: int = 32,
    ks: tuple[int, ...] = (1, 8, 16),
    temperatures: tuple[float, ...] = (1.0, 1.2),
    seed: int = 0,
) -> Metrics:
    """Sample `samples` responses to each problem at T = 1, at least max(ks) and GROUP, and return the metrics."""
    prompts = tokenizer([problem.prompt for problem in problems]).input_ids
    correct, entropy = _count_correct(model, tokenizer, problems, prompts, samples, 1.0, seed)

    def pass_at(k: int, kind: str | None = None) -> float:
        values = [pass_at_k(samples, c, k) for c, problem in zip(correct, problems, strict=True) if kind in (None, problem.kind)]
        return sum(values) / len(values)

    kinds = sorted({problem.kind for problem in problems})
    rare = [problem for problem in problems if problem.kind.startswith("mul")]
    hinted = tokenizer([f"{problem.prompt} {HINT}" for problem in rare]).input_ids
    mode_success = {}
    for temperature in temperatures:
        solved, _ = _count_correct(model, tokenizer, rare, hinted, GROUP, temperature, seed)
        mode_success[temperature] = sum(solved) / (GROUP * len(rare))
    return Metrics(
        problems=len(problems),
        samples=samples,
        pass_at={k: pass_at(k) for k in ks},
        pass_at_by_kind={kind: {k: pass_at(k, kind) for k in ks} for kind in kinds},
        entropy=entropy,
        difficult=1 - pass_at(GROUP),
        mode={t: _mode_probability(model, tokenizer, rare, t) for t in temperatures},
        mode_success=mode_success,
    )


def _count_correct(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    problems: list[Problem],
    prompts: list[list[int]],
    samples: int,
    temperature: float,
    seed: int,
) -> tuple[list[int], float]:
    """Return the number of right responses to each problem, and the mean entropy."""
    responses, entropy = sample(model, prompts, samples, MAX_RESPONSE_TOKENS, temperature, seed)
    correct = []
    for problem, group in zip(problems, responses, strict=True):
        texts = [str(tokenizer.decode(response, skip_special_tokens=True)) for response in group]
        correct.append(round(sum(score(text, str(problem.target), numbers=list(problem.numbers))["accuracy"] for text in texts)))
    return correct, entropy


@torch.no_grad()
def _mode_probability(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, problems: list[Problem], temperature: float) -> float:
    """Return the mean probability that a response begins with `?`."""
    total = 0.0
    for problem in problems:
        ids_BP = torch.tensor([tokenizer(problem.prompt).input_ids])
        logits_V = model(input_ids=ids_BP).logits[0, -1]
        total += float((logits_V / temperature).softmax(-1)[tokenizer.convert_tokens_to_ids(HINT)])
    return total / len(problems)
