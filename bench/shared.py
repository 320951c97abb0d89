"""Speed-up of rows that share a prompt and its image: forward and backward pass against a row for each response.

The first model is that of configs/vlm.yaml, on random groups: 8 responses of 32 tokens to a prompt with an image of 64 image tokens. The
second has the architecture of configs/llm.yaml, four times as wide, on 8 responses of 128 tokens to prompts of 256 tokens. The other
side repeats prompt and image for each response, as a learner without groups does. The gradients of both sides have to agree.
"""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2Config, Qwen2ForCausalLM

from bench.metric import Metric, Target, compared
from bench.task import VISION, default_config
from bench.turns import Block, in_turns
from uec.errors import RunFailed
from uec.models.policy import Policy, load_model
from uec.models.pretrained import load_tokenizer, locate_model
from uec.models.processor import load_processor
from uec.models.rows import Layout, Rows
from uec.models.vision import Vision
from uec.types import Continuation, ImageFeatures, Prompt

PAIRS = 9
RESPONSES = 8
SIDE = 224
"""Pixels: 16 x 16 patches of 14, four to an image token."""

SAME_GRADIENT = 1e-3
"""Largest relative difference of the two gradients' norms."""


def measure(scratch: Path, pairs: int = PAIRS, groups: int = 8) -> list[Metric]:
    return [
        _compare("64 image tokens, 8 responses of 32", *_with_images(groups), Target(2.0, at_most=False), pairs),
        _compare("256 tokens of text, 8 responses of 128", *_text(max(1, groups // 4)), Target(1.8, at_most=False), pairs),
    ]


def _with_images(groups: int) -> tuple[Policy, Layout, list[list[Continuation]], dict[int, ImageFeatures]]:
    cfg = default_config(config=VISION)
    cfg.data.image.max_pixels = SIDE * SIDE
    tokenizer = load_tokenizer(cfg.model)
    processor = load_processor(cfg.model, cfg.data.image, tokenizer)
    assert processor is not None, "configs/vlm.yaml has a vision-language model"
    torch.set_num_threads(cfg.learner.threads)
    hf = load_model(cfg.model, locate_model(cfg.model), "float32").train()
    policy = Policy(hf, cfg.learner.logits_chunk_mb, len(tokenizer), banned=processor.vision_tokens())
    layout = Layout(torch.device("cpu"), True, Vision(hf, processor.feature_id, *processor.blank()))
    rng = np.random.default_rng(0)
    text = f"{processor.placeholder}Find the area."
    tokens, spans = processor.expand(tokenizer(text, add_special_tokens=False).input_ids, [(SIDE, SIDE)])
    prompt, rows, images = np.array(tokens, np.int32), [], {}
    for group in range(groups):
        image = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
        images[group] = processor.features(Prompt(group, text, prompt, "", {}, ("made up",), spans), [image])
        rows.append(_group(rng, group, prompt, 32, range(32, len(tokenizer))))
    return policy, layout, rows, images


def _text(groups: int) -> tuple[Policy, Layout, list[list[Continuation]], dict[int, ImageFeatures]]:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=1024, hidden_size=512, intermediate_size=1536, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    rows = [_group(rng, group, rng.integers(0, 1024, 256).astype(np.int32), 128, range(1024)) for group in range(groups)]
    return Policy(Qwen2ForCausalLM(config).train(), 256, 1024), Layout(torch.device("cpu"), True), rows, {}


def _group(rng: Any, group: int, prompt: Any, length: int, vocabulary: range) -> list[Continuation]:
    return [Continuation(group, prompt, rng.integers(vocabulary.start, vocabulary.stop, length).astype(np.int32)) for _ in range(RESPONSES)]


def _compare(
    what: str, policy: Policy, layout: Layout, rows: list[list[Continuation]], images: dict[int, ImageFeatures], target: Target, pairs: int
) -> Metric:
    together = layout.rows(rows, images)
    apart = replace(layout, packed=False).rows([[one] for row in rows for one in row], images)
    one, other = _norm(policy, together), _norm(policy, apart)
    if abs(one - other) > SAME_GRADIENT * other:
        raise RunFailed(f"shared rows do not give the gradient of rows apart: norms {one:.5g} and {other:.5g}")
    tokens = apart.tokens  # of both: what the learner gets done
    shared, plain = asyncio.run(in_turns(lambda _: _pass(policy, together, tokens), lambda _: _pass(policy, apart, tokens), pairs))
    note = f"{len(rows)} groups; median of {pairs} pairs"
    return compared(f"shared rows, {what}", shared, plain, lambda block: block.rate, "tokens/s", "a row a response", target, note)


def _pass(policy: Policy, rows: Rows, tokens: int) -> Block:
    begin, cpu_begin = time.perf_counter(), time.process_time()
    policy(rows).logprobs_N.mean().backward()
    policy.zero_grad()
    return Block(time.perf_counter() - begin, tokens, time.process_time() - cpu_begin)


def _norm(policy: Policy, rows: Rows) -> float:
    policy(rows).logprobs_N.mean().backward()
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in policy.parameters() if parameter.grad is not None])
    policy.zero_grad()
    return float(norm)
