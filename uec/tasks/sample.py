"""Sampling from a small causal model with plain transformers, to measure an initial model."""

from collections import defaultdict
from typing import Any

import torch
from transformers import PreTrainedModel


@torch.no_grad()
def sample(
    model: PreTrainedModel, prompts: list[list[int]], n: int, max_tokens: int, temperature: float, seed: int
) -> tuple[list[list[list[int]]], float]:
    """Return n responses to each prompt, as token ids without the end-of-text token, and the mean entropy.

    The entropy is -sum_v p_v log p_v at T = 1, in nats, averaged over all sampled tokens. Prompts of equal length form one
    batch, so nothing is padded.
    """
    generator = torch.Generator().manual_seed(seed)
    eos = model.config.eos_token_id
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_length[len(prompt)].append(index)
    responses: list[list[list[int]]] = [[] for _ in prompts]
    entropy_sum, token_count = 0.0, 0
    for indices in by_length.values():
        ids_BP = torch.tensor([prompts[i] for i in indices for _ in range(n)])
        tokens_BT, entropy_BT, alive_BT = sample_batch(model, {"input_ids": ids_BP}, max_tokens, temperature, eos, generator)
        entropy_sum += float((entropy_BT * alive_BT).sum())
        token_count += int(alive_BT.sum())
        for row, response in enumerate(cut(tokens_BT, alive_BT, eos)):
            responses[indices[row // n]].append(response)
    return responses, entropy_sum / token_count


@torch.no_grad()
def sample_batch(
    model: PreTrainedModel, prompts: dict[str, Any], max_tokens: int, temperature: float, eos: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return tokens, entropies and whether a token belongs to the response (its end-of-text token included), all [B, T].

    `prompts` are the inputs of the model: input_ids [B, P] of one length, and images if it reads any.
    """
    alive_B = torch.ones(len(prompts["input_ids"]), dtype=torch.bool)
    inputs, cache = prompts, None
    tokens, entropies, alive = [], [], []
    for _ in range(max_tokens):
        output = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        logits_BV = output.logits[:, -1]
        logprobs_BV = logits_BV.log_softmax(-1)
        drawn_B = torch.multinomial((logits_BV / temperature).softmax(-1), 1, generator=generator)[:, 0]
        tokens.append(drawn_B)
        entropies.append(-(logprobs_BV.exp() * logprobs_BV).sum(-1))
        alive.append(alive_B)
        alive_B = alive_B & (drawn_B != eos)
        if not alive_B.any():
            break
        inputs = {"input_ids": drawn_B[:, None]}
    return torch.stack(tokens, 1), torch.stack(entropies, 1), torch.stack(alive, 1)


def cut(tokens_BT: torch.Tensor, alive_BT: torch.Tensor, eos: int) -> list[list[int]]:
    """Return each row up to its end-of-text token, without that token."""
    responses = [row[: int(length)] for row, length in zip(tokens_BT.tolist(), alive_BT.sum(1).tolist(), strict=True)]
    return [response[:-1] if response[-1] == eos else response for response in responses]
