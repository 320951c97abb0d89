"""A language or vision-language model as a policy, which computes only log-probabilities and entropies of response tokens."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uec.algorithm.entropy import NO_MORE, Gradients, TokenScores, rows_per_chunk, token_scores
from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.attention import Pieces, takes_pieces, use_pieces
from uec.models.linear import linear
from uec.models.packing import Length, plan
from uec.models.rows import Layout, Rows
from uec.types import Continuation, ImageFeatures, Logprobs

BANNED = -1e9
"""Logit of a banned token: finite, so that its term of the entropy is 0 and not NaN."""


class Policy(nn.Module):
    """A transformers model whose `forward` returns log-probabilities and entropies at response positions.

    The forward pass of transformers computes logits of every position [B, L, V]. This one computes hidden states and runs the head on the
    N response positions, in chunks of `logits_chunk_mb` MiB.
    """

    hf: Any  # transformers' PreTrainedModel

    def __init__(
        self,
        hf: nn.Module,
        logits_chunk_mb: int,
        vocabulary: int,
        gradients: Gradients = NO_MORE,
        banned: Sequence[int] = (),
        float32_head: bool = False,
    ) -> None:
        """`vocabulary`: number of tokens that exist. Ids beyond it, in the padding of an embedding, get no probability.

        `gradients`: the values that have a gradient besides the log-probabilities at T = 1. `banned`: tokens that no engine samples,
        because they stand for images; they get no probability either. `float32_head`: compute logits in float32 (learner.head_dtype).
        """
        super().__init__()
        self.hf = hf
        self._takes_pieces = takes_pieces(hf)
        if self._takes_pieces:
            use_pieces(hf)
        self.vocabulary = vocabulary
        self.banned = list(banned)
        text = self.hf.config.get_text_config()
        rows = rows_per_chunk(text.vocab_size, logits_chunk_mb)
        self.head = Head(self.hf.get_output_embeddings(), text.to_dict(), vocabulary, rows, gradients, self.banned, float32_head)

    def forward(self, rows: Rows, temperatures_N: Tensor | None = None) -> TokenScores:
        """Return log-probabilities and entropies of the rows' response tokens."""
        hidden_BLD = self.hf.base_model(
            input_ids=rows.ids_BL, position_ids=rows.positions, use_cache=False, **self._pieces(rows), **self._images(rows)
        ).last_hidden_state
        return self.head(hidden_BLD[rows.row_N, rows.from_N], rows.targets_N(), temperatures_N)

    def _pieces(self, rows: Rows) -> dict[str, Pieces]:
        if rows.pieces is None:
            return {}
        if not self._takes_pieces:
            raise BadInput(
                f"model.path: rows of {type(self.hf).__name__} cannot be packed, because transformers allows no custom attention for it; "
                "set learner.shared_prefix=false"
            )
        return {"pieces": rows.pieces}

    def _images(self, rows: Rows) -> dict[str, Tensor]:
        device = rows.ids_BL.device
        return {name: tensor.to(device, self.hf.dtype if tensor.is_floating_point() else None) for name, tensor in rows.images.items()}


class Head(nn.Module):
    """Computes log-probabilities and entropies from hidden states with the model's output embedding.

    It is a separate module that holds the embedding's parameters, so ZeRO-3 gathers them once for any number of chunks. Calling the
    embedding for each chunk would gather it each time, and ranks with different numbers of chunks would deadlock.
    """

    def __init__(
        self,
        embedding: nn.Linear,
        config: dict[str, Any],
        vocabulary: int,
        rows: int,
        gradients: Gradients,
        banned: Sequence[int] = (),
        float32: bool = False,
    ) -> None:
        super().__init__()
        self.weight, self.bias = embedding.weight, embedding.bias
        self.vocabulary = vocabulary
        self.rows = rows
        self.gradients = gradients
        self.float32 = float32
        self.banned = [token for token in banned if token < vocabulary]
        # Some architectures transform logits: Granite divides, Cohere multiplies, Gemma caps.
        self.divisor, self.factor = config.get("logits_scaling"), config.get("logit_scale")
        self.cap = config.get("final_logit_softcapping")

    def forward(self, hidden_ND: Tensor, targets_N: Tensor, temperatures_N: Tensor | None) -> TokenScores:
        weight_VD: Tensor = self.weight
        bias_V: Tensor | None = self.bias
        if self.float32:  # once for all chunks, so that their gradients are summed in float32
            dtype = torch.promote_types(weight_VD.dtype, torch.float32)
            weight_VD, bias_V = weight_VD.to(dtype), None if bias_V is None else bias_V.to(dtype)
        head = partial(self._logits, weight_VD=weight_VD, bias_V=bias_V)
        return token_scores(hidden_ND, head, targets_N, self.rows, temperatures_N, self.gradients)

    def _logits(self, hidden_CD: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
        logits_CV = linear(hidden_CD.to(weight_VD.dtype), weight_VD, bias_V)[:, : self.vocabulary]
        if self.divisor is not None:
            logits_CV = logits_CV / self.divisor
        if self.factor is not None:
            logits_CV = logits_CV * self.factor
        if self.cap is not None:
            logits_CV = torch.tanh(logits_CV / self.cap) * self.cap
        if self.banned:
            banned = torch.tensor(self.banned, device=logits_CV.device)
            logits_CV = logits_CV.index_fill(1, banned, max(BANNED, torch.finfo(logits_CV.dtype).min))
        return logits_CV


def load_model(settings: ModelConfig, path: str, dtype: str) -> nn.Module:
    """Return the model in `path` (a folder or hub name), on CPU, without dropout. Reads safetensors only.

    Raises BadInput if transformers cannot load a language model from it.
    """
    from transformers.utils import logging

    from uec.models.model_config import auto_class
    from uec.models.pretrained import load_config

    logging.disable_progress_bar()
    try:
        hf = auto_class(load_config(settings)).from_pretrained(
            path, dtype=getattr(torch, dtype), trust_remote_code=settings.trust_remote_code, use_safetensors=True
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise BadInput(f"model.path={settings.path}: transformers loads no language model from it: {error}") from error
    without_dropout(hf)
    return hf


def without_dropout(model: nn.Module) -> None:
    """Switch off all dropout, so that a model in training mode computes the same log-probabilities as the engine.

    Training mode stays on, because transformers requires it for gradient checkpointing. The config stays unchanged, because it is written
    to checkpoints.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and (name.endswith("dropout") or name.endswith("dropout_prob")):
                setattr(module, name, 0.0)


def verify(forward: Callable[..., TokenScores], policy: Policy, layout: Layout) -> None:
    """Compare `forward` (a Policy, or the engine around it) with transformers' forward pass on a few short sequences.

    Raises BadInput for architectures that transform hidden states or logits in unknown ways, or that ignore masks or positions, before a
    run learns from wrong log-probabilities.
    """
    tokens = np.array([token for token in range(1, policy.vocabulary) if token not in policy.banned][:11], np.int32)
    tokens = np.resize(tokens, 11)
    first, second, third = (Continuation(0, tokens[:4], tokens[4:10]), Continuation(0, tokens[:4], tokens[8:]),
                            Continuation(1, tokens[2:4], tokens[5:8]))  # fmt: skip
    rows, images = [[first, second], [third]] if layout.packed else [[first], [second], [third]], {}
    if layout.vision is not None:
        images[2] = layout.vision.blank
        rows.append([Continuation(2, layout.vision.blank_tokens, tokens[1:9])])
    with torch.no_grad():
        ours_N = forward(layout.rows(rows, images)).logprobs_N.float()
        theirs_N = torch.cat([_plain_logprobs(policy, layout, one, images) for row in rows for one in row])
    gap = float((ours_N - theirs_N).abs().max())
    if not gap <= (1e-3 if policy.hf.dtype == torch.float32 else 0.2):
        advice = ". If only packed rows differ, learner.shared_prefix=false helps" if layout.packed else ""
        raise BadInput(
            f"model.path: {type(policy.hf).__name__} cannot be trained: the learner's log-probabilities differ by {gap:.3g} nats "
            "from transformers' forward pass, which treats hidden states, logits, positions or masks in an unsupported way"
            f"{advice}"
        )


def _plain_logprobs(policy: Policy, layout: Layout, one: Continuation, images: Mapping[int, ImageFeatures]) -> Tensor:
    """Return log-probabilities [T] by transformers' forward pass on this sequence alone."""
    ids_1L = torch.from_numpy(np.concatenate([one.prompt_tokens, one.tokens]).astype(np.int64))[None].to(layout.device)
    inputs = {}
    if layout.vision is not None and one.prompt in images:
        inputs = {name: tensor.to(layout.device) for name, tensor in layout.vision.inputs([images[one.prompt]]).items()}
        if layout.vision.has_mrope:
            inputs["mm_token_type_ids"] = (ids_1L == layout.vision.image_token).int()
    logits_1LV = policy.hf(input_ids=ids_1L, use_cache=False, **inputs).logits.float()
    if policy.banned:
        logits_1LV[..., policy.banned] = BANNED
    logprobs_TV = logits_1LV[0, len(one.prompt_tokens) - 1 : -1, : policy.vocabulary].log_softmax(-1)
    return logprobs_TV.gather(1, ids_1L[0, len(one.prompt_tokens) :, None]).squeeze(1)


def sequence_logprobs(
    forward: Callable[..., TokenScores],
    sequences: Sequence[Continuation],
    layout: Layout,
    images: Mapping[int, ImageFeatures],
    micro_batch_tokens: int,
) -> tuple[list[Logprobs], list[Logprobs]]:
    """Return log-probabilities (T = 1) and true entropies of the sequences' response tokens, without gradient."""
    sizes = [Length(one.prompt, len(one.prompt_tokens), len(one.tokens)) for one in sequences]
    [share] = plan(sizes, 1, micro_batch_tokens, 1, 0, layout.packed)
    logprobs: list[Logprobs] = [np.empty(0, np.float32)] * len(sequences)
    entropies = list(logprobs)
    with torch.no_grad():
        for batch in (batch for step in share.steps for batch in step):
            numbers = [[share.responses[i] for i in row] for row in batch]
            rows = layout.rows([[sequences[n] for n in row] for row in numbers], images)
            scores = forward(rows)
            for values_N, out in ((scores.logprobs_N, logprobs), (scores.entropies_N, entropies)):
                for n, part in zip((n for row in numbers for n in row), rows.split(values_N), strict=True):
                    out[n] = part
    return logprobs, entropies
