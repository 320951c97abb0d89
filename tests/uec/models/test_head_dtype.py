"""The head in float32 of a model in half precision (learner.head_dtype), against float64."""

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from uec.models.policy import Policy
from uec.models.rows import Layout, Rows
from uec.types import Continuation

VOCAB = 64


def policy(float32_head: bool, rows: int) -> Policy:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        tie_word_embeddings=False, initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    made = Policy(Qwen2ForCausalLM(config).to(torch.bfloat16), 256, VOCAB, float32_head=float32_head)
    made.head.rows = rows
    return made


def batch() -> Rows:
    rng = np.random.default_rng(0)
    rows = [[Continuation(i, *(rng.integers(3, VOCAB, 12, dtype=np.int32) for _ in range(2)))] for i in range(20)]
    return Layout(torch.device("cpu"), packed=False).rows(rows, {})


def errors(float32_head: bool, rows: int) -> tuple[float, float, float]:
    """Return the RMS errors of log-probabilities, and of the gradients of head and hidden states, relative to float64."""
    ours, packed = policy(float32_head, rows), batch()
    hidden_ND = ours.hf.base_model(input_ids=packed.ids_BL).last_hidden_state[packed.row_N, packed.from_N].detach().requires_grad_()
    logprobs_N = ours.head(hidden_ND, packed.targets_N(), None).logprobs_N
    logprobs_N.sum().backward()
    exact_ND, weight_VD = (tensor.detach().double().requires_grad_() for tensor in (hidden_ND, ours.head.weight))
    exact_N = (exact_ND @ weight_VD.T).log_softmax(-1).gather(1, packed.targets_N()[:, None])[:, 0]
    exact_N.sum().backward()
    assert ours.head.weight.dtype == ours.head.weight.grad.dtype == hidden_ND.grad.dtype == torch.bfloat16
    pairs = ((logprobs_N, exact_N), (ours.head.weight.grad, weight_VD.grad), (hidden_ND.grad, exact_ND.grad))
    return tuple(rms(mine.double() - exact) / rms(exact) for mine, exact in pairs)


def rms(values: Tensor) -> float:
    return float(values.detach().double().square().mean().sqrt())


@pytest.mark.parametrize("rows", [1000, 7], ids=["one-chunk", "chunks"])
def test_a_head_in_float32_loses_nothing_that_the_hidden_states_have(rows: int) -> None:
    model, float32 = errors(False, rows), errors(True, rows)
    assert float32[0] < 1e-6 and model[0] > 5e-4
    # The gradients are rounded to bfloat16 once, which has 8 bits: a relative error of at most 2^-8 / sqrt(3).
    assert float32[1] < 2.3e-3 < model[1] and float32[2] < 2.3e-3
