"""The choice of the attention of packed rows, and the arguments of its kernels."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import Qwen2Config

from uec.config.schema import Config, LearnerConfig
from uec.errors import BadInput
from uec.models import attention
from uec.models.attention import Blocks, VarlenPieces, choose_pieces
from uec.system.platform import detect

# A prompt of 3 tokens with responses of 2, 0 and 1, then a prompt of 1 with a response of 2.
PIECES = np.array([0, 3, 5, 5, 6, 7]), np.array([3, 2, 0, 1, 1, 2]), np.array([0, 0, 0, 0, 4, 4])


def test_a_piece_has_its_tokens_as_queries_and_its_prompts_and_its_tokens_as_keys():
    pieces = VarlenPieces.of(*PIECES, torch.device("cpu"))
    assert pieces.query_cu_S1.tolist() == [0, 3, 5, 6, 7, 9]  # the empty response is no piece
    assert pieces.key_cu_S1.tolist() == [0, 3, 8, 12, 13, 16]
    assert pieces.key_K.tolist() == [0, 1, 2] + [0, 1, 2, 3, 4] + [0, 1, 2, 5] + [6] + [6, 7, 8]
    assert (pieces.longest_query, pieces.longest_key) == (3, 5)
    assert pieces.query_cu_S1.dtype == pieces.key_cu_S1.dtype == torch.int32


def test_masked_blocks_repeat_keys_and_values_where_sdpa_has_no_grouped_queries(monkeypatch):
    calls = []

    def recorded(query, key, value, attn_mask, **kwargs):
        calls.append((attn_mask is not None, key.shape[1], kwargs["enable_gqa"]))
        return plain(query, key, value, attn_mask=attn_mask, **kwargs)

    plain = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    blocks = Blocks.of(*PIECES, torch.device("cpu"))
    states = [torch.randn(9, heads, 8) for heads in (4, 2, 2)]
    on_cpu = blocks.attend(*states, None)
    assert not blocks.repeats and set(calls) == {(True, 2, True), (False, 2, True)}
    calls.clear()
    torch.testing.assert_close(replace(blocks, repeats=True).attend(*states, None), on_cpu)
    assert set(calls) == {(True, 4, False), (False, 2, True)}
    assert Blocks.of(*PIECES, torch.device("meta")).repeats  # any device other than the CPU


def chosen(monkeypatch, attention_setting: str = "auto", flash: bool = True, dtype: str = "bfloat16", **model: int) -> type:
    monkeypatch.setattr(attention, "has_flash_attention", lambda: flash)
    cfg = Config(learner=LearnerConfig(attention=attention_setting))
    cfg.model.dtype = dtype
    return choose_pieces(cfg.learner, detect(cfg, "cuda"), Qwen2Config(hidden_size=512, num_attention_heads=4, **model))


def test_a_gpu_in_half_precision_uses_varlen_where_the_kernel_takes_the_model(monkeypatch):
    assert chosen(monkeypatch) is VarlenPieces
    assert chosen(monkeypatch, "varlen") is VarlenPieces
    assert chosen(monkeypatch, "blocks") is Blocks
    assert chosen(monkeypatch, dtype="float32") is Blocks
    assert chosen(monkeypatch, flash=False) is Blocks
    assert chosen(monkeypatch, head_dim=264) is Blocks
    assert chosen(monkeypatch, head_dim=20) is Blocks
    assert choose_pieces(LearnerConfig(), detect(Config(), "cpu"), Qwen2Config()) is Blocks


def test_varlen_is_refused_by_name_where_it_cannot_run(monkeypatch):
    cfg = Config(learner=LearnerConfig(attention="varlen"))
    with pytest.raises(BadInput, match="learner.attention=varlen needs CUDA devices.*found CPU and model.dtype=float32.*=auto"):
        detect(cfg, "cpu")
    cfg.model.dtype = "float32"
    with pytest.raises(BadInput, match="learner.attention=varlen needs CUDA devices.*found CUDA and model.dtype=float32"):
        detect(cfg, "cuda")
    for case in ({"head_dim": 264}, {"head_dim": 20}, {"flash": False}):
        with pytest.raises(BadInput, match="learner.attention=varlen needs a GPU of compute capability 8.0"):
            chosen(monkeypatch, "varlen", **case)


def test_torchs_varlen_attention_has_the_arguments_that_this_code_uses(monkeypatch):
    from inspect import signature

    from torch.nn.attention import varlen

    real = signature(varlen.varlen_attn)  # before the stand-in below
    calls = []
    monkeypatch.setattr(varlen, "varlen_attn", lambda *args, **kwargs: calls.append(real.bind(*args, **kwargs).arguments))
    VarlenPieces.of(*PIECES, torch.device("cpu")).attend(*(torch.randn(9, heads, 8) for heads in (4, 2, 2)), 0.5)
    [call] = calls
    seen = SimpleNamespace(**call)
    assert (seen.max_q, seen.max_k, seen.scale, seen.window_size, seen.enable_gqa) == (3, 5, 0.5, (-1, 0), True)
    assert len(seen.query) == int(seen.cu_seq_q[-1]) and len(seen.key) == len(seen.value) == int(seen.cu_seq_k[-1])
