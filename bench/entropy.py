"""Cost of exact entropies for the learner: a policy's forward and backward pass with them, against log-probabilities alone."""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from bench.metric import Metric, Target, compared
from bench.task import default_config
from bench.turns import Block, in_turns
from uec.algorithm.entropy import TokenScores
from uec.models.policy import Head, Policy
from uec.models.rows import Layout, Rows
from uec.types import Continuation

PAIRS = 12
TARGET = Target(1.10)
CHUNK_MB = 256
WIDE = {"vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 8, "num_attention_heads": 9, "num_key_value_heads": 3}
"""Width and vocabulary of SmolLM2-135M with a quarter of its depth and random weights: the vocabulary dominates the cost."""


class LogprobsOnly(Head):
    """The bound: one cross entropy, without entropies and chunks."""

    def forward(self, hidden_ND: Tensor, targets_N: Tensor, temperatures_N: Tensor | None) -> TokenScores:
        logprobs_N = -F.cross_entropy(self._logits(hidden_ND, self.weight, self.bias).float(), targets_N, reduction="none")
        return TokenScores(logprobs_N, logprobs_N.detach(), logprobs_N.detach())


def measure(scratch: Path, pairs: int = PAIRS) -> list[Metric]:
    cfg = default_config()
    torch.set_num_threads(cfg.learner.threads)
    torch.manual_seed(0)
    default = AutoModelForCausalLM.from_pretrained(cfg.model.path, dtype=torch.float32).train()
    wide = Qwen2ForCausalLM(Qwen2Config(**WIDE, intermediate_size=1536, tie_word_embeddings=True)).train()
    return [
        _compare("default model, 111 tokens", default, rows=192, prompt=8, response=16, pairs=pairs),
        _compare("random model, 49k tokens", wide, rows=6, prompt=64, response=64, pairs=pairs),
    ]


def _compare(what: str, hf: Any, rows: int, prompt: int, response: int, pairs: int) -> Metric:
    vocabulary = hf.config.vocab_size
    rng = np.random.default_rng(0)
    draw = [[rng.integers(0, vocabulary, length).astype(np.int32) for _ in range(rows)] for length in (prompt, response)]
    layout = Layout(torch.device("cpu"), packed=False)
    batch = layout.rows([[Continuation(i, *pair)] for i, pair in enumerate(zip(*draw, strict=True))], {})
    ours, bare = Policy(hf, CHUNK_MB, vocabulary), Policy(hf, CHUNK_MB, vocabulary)
    bare.head.__class__ = LogprobsOnly
    with_it, without = asyncio.run(in_turns(lambda _: _pass(ours, batch), lambda _: _pass(bare, batch), pairs))
    note = f"{rows} x ({prompt} + {response}) tokens; median of {pairs} pairs"
    against = "log-probabilities alone"
    return compared(f"scores with entropies, {what}", with_it, without, lambda block: block.seconds, "s", against, TARGET, note)


def _pass(policy: nn.Module, batch: Rows) -> Block:
    begin, cpu_begin = time.perf_counter(), time.process_time()
    policy(batch).logprobs_N.mean().backward()
    policy.zero_grad()
    return Block(time.perf_counter() - begin, batch.tokens, time.process_time() - cpu_begin)
