"""A causal language model as a policy: log-probabilities and entropies of response tokens, and nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uec.algorithm.entropy import NO_MORE, Gradients, TokenScores, rows_per_chunk, token_scores
from uec.config import Model
from uec.errors import BadInput
from uec.models.microbatch import Rows, pad
from uec.models.packing import plan
from uec.types import Logprobs, Tokens


class Policy(nn.Module):
    """Wraps a transformers causal LM so that `forward` gives scores at response positions.

    Its own forward makes logits of every position [B, L, V]; this one asks the decoder for hidden states and
    runs the head on the N response positions, a chunk of `logits_chunk_mb` MiB at a time.
    """

    hf: Any  # transformers' PreTrainedModel

    def __init__(self, hf: nn.Module, logits_chunk_mb: int, vocabulary: int, gradients: Gradients = NO_MORE) -> None:
        """`vocabulary`: tokens that exist. Logits of ids beyond it, where an embedding is padded, get no probability.

        `gradients`: which scores carry one beside the log-probabilities at T = 1.
        """
        super().__init__()
        self.hf = hf
        self.vocabulary = vocabulary
        text = self.hf.config.get_text_config()
        rows = rows_per_chunk(text.vocab_size, logits_chunk_mb)
        self.head = Head(self.hf.get_output_embeddings(), text.to_dict(), vocabulary, rows, gradients)

    def forward(self, ids_BL: Tensor, row_N: Tensor, col_N: Tensor, temperatures_N: Tensor | None = None) -> TokenScores:
        """Scores of the tokens at (row, col); see `uec.models.microbatch.Rows` for the layout.

        No attention mask and no position ids: under right padding the model's own defaults are right, and attention takes its
        fast causal path.
        """
        hidden_BLD = self.hf.base_model(input_ids=ids_BL, use_cache=False).last_hidden_state
        return self.head(hidden_BLD[row_N, col_N - 1], ids_BL[row_N, col_N], temperatures_N)


class Head(nn.Module):
    """From hidden states to scores, through the model's own output embedding.

    A module of its own, which holds the embedding's parameters: ZeRO-3 then gathers them once, however many chunks there are.
    Calling the embedding for each chunk would gather it each time, and ranks with unequal chunks would wait for each other for ever.
    """

    def __init__(self, embedding: nn.Linear, config: dict[str, Any], vocabulary: int, rows: int, gradients: Gradients) -> None:
        super().__init__()
        self.weight, self.bias = embedding.weight, embedding.bias
        self.vocabulary = vocabulary
        self.rows = rows
        self.gradients = gradients
        # What some architectures do to logits: Granite divides, Cohere multiplies, Gemma caps.
        self.divisor, self.factor = config.get("logits_scaling"), config.get("logit_scale")
        self.cap = config.get("final_logit_softcapping")

    def forward(self, hidden_ND: Tensor, targets_N: Tensor, temperatures_N: Tensor | None) -> TokenScores:
        return token_scores(hidden_ND, self._logits, targets_N, self.rows, temperatures_N, self.gradients)

    def _logits(self, hidden_CD: Tensor) -> Tensor:
        logits_CV = nn.functional.linear(hidden_CD, self.weight, self.bias)[:, : self.vocabulary]
        if self.divisor is not None:
            logits_CV = logits_CV / self.divisor
        if self.factor is not None:
            logits_CV = logits_CV * self.factor
        if self.cap is not None:
            logits_CV = torch.tanh(logits_CV / self.cap) * self.cap
        return logits_CV


def load_model(settings: Model, path: str, dtype: str) -> nn.Module:
    """The causal LM in `path` (a folder or hub name), on CPU, dropout off. Only safetensors are read.

    Raises BadInput where transformers cannot make a causal LM of it.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        hf = AutoModelForCausalLM.from_pretrained(
            path, dtype=getattr(torch, dtype), trust_remote_code=settings.trust_remote_code, use_safetensors=True
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise BadInput(f"model.path={settings.path}: transformers loads no causal language model from it: {error}") from error
    without_dropout(hf)
    return hf


def without_dropout(model: nn.Module) -> None:
    """Switch every dropout off for good, so that a model in training mode scores as the engine does.

    Training mode itself stays on: transformers ties gradient checkpointing to it. The config is left as it was, for it goes
    into checkpoints.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and (name.endswith("dropout") or name.endswith("dropout_prob")):
                setattr(module, name, 0.0)


def verify(forward: Callable[..., TokenScores], policy: Policy, device: torch.device) -> None:
    """Compare `forward` (a Policy, or the engine around it) with the model's own, mask and all, on two short rows.

    Some architectures do to hidden states or logits what is not known here, or let padding through: they are named before
    a run learns from wrong log-probabilities. Raises BadInput.
    """
    hf, vocabulary = policy.hf, policy.vocabulary
    prompts, responses = ((np.arange(first, last) % vocabulary for first, last in spans) for spans in (((1, 5), (3, 5)), ((5, 11), (2, 5))))
    rows = pad(list(prompts), list(responses), device)
    mask_BL = torch.ones_like(rows.ids_BL)
    mask_BL[1, 5:] = 0
    with torch.no_grad():
        ours_N = score_rows(forward, rows).logprobs_N
        logits_BLV = hf(input_ids=rows.ids_BL, attention_mask=mask_BL, use_cache=False).logits
    logprobs_NV = logits_BLV[rows.row_N, rows.col_N - 1, :vocabulary].float().log_softmax(-1)
    theirs_N = logprobs_NV.gather(1, rows.targets_N()[:, None]).squeeze(1)
    gap = float((ours_N - theirs_N).abs().max())
    if not gap <= (1e-3 if logits_BLV.dtype == torch.float32 else 0.2):
        raise BadInput(
            f"model.path: {type(hf).__name__} cannot be trained: the learner's log-probabilities of it are off by {gap:.3g} nats from "
            "the model's own forward pass, which treats hidden states, logits or padding in a way that is not known here"
        )


def score_rows(forward: Callable[..., TokenScores], rows: Rows, temperatures_N: Tensor | None = None) -> TokenScores:
    """One forward pass over rows, through a Policy or the DeepSpeed engine around it."""
    return forward(rows.ids_BL, rows.row_N, rows.col_N, temperatures_N)


def score_sequences(
    forward: Callable[..., TokenScores], sequences: list[tuple[Tokens, Tokens]], micro_batch_tokens: int, device: torch.device
) -> tuple[list[Logprobs], list[Logprobs]]:
    """Log-probabilities (T = 1) and true entropies of the response tokens of (prompt, response) pairs, without gradient."""
    lengths = [len(prompt) + len(response) for prompt, response in sequences]
    [share] = plan(lengths, [len(response) for _, response in sequences], 1, micro_batch_tokens, 1, 0)
    logprobs: list[Logprobs] = [np.empty(0, np.float32)] * len(sequences)
    entropies = list(logprobs)
    with torch.no_grad():
        for batch in (batch for step in share.steps for batch in step):
            numbers = [share.rows[i] for i in batch]
            rows = pad([sequences[n][0] for n in numbers], [sequences[n][1] for n in numbers], device)
            scores = score_rows(forward, rows)
            for values_N, out in ((scores.logprobs_N, logprobs), (scores.entropies_N, entropies)):
                for n, part in zip(numbers, rows.split(values_N), strict=True):
                    out[n] = part
    return logprobs, entropies
