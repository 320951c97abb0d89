"""vLLM's engine arguments for a config."""

from typing import Any

import pytest
import torch

from actors.engines.vllm.job import engine_arguments
from uec.system.platform import Platform


def arguments(cfg: Any, dtype: str, images: int | None = None) -> dict[str, Any]:
    return engine_arguments(cfg, Platform("cuda", dtype, "nccl", "nccl", "async"), 0, cfg.model.path, 512, images)


def test_a_float32_head_is_asked_of_vllm_only_where_the_model_is_in_half_precision(make_config):
    cfg = make_config("rollout.head_dtype=float32")
    assert arguments(cfg, "bfloat16")["hf_overrides"] == {"head_dtype": "float32"}
    assert "hf_overrides" not in arguments(cfg, "float32")
    assert "hf_overrides" not in arguments(make_config(), "bfloat16")


def test_a_vision_language_model_has_the_head_dtype_in_its_text_config_too(make_config):
    found = arguments(make_config("rollout.head_dtype=float32"), "bfloat16", images=1)
    assert found["hf_overrides"] == {"head_dtype": "float32", "text_config": {"head_dtype": "float32"}}


@pytest.mark.parametrize("folder", ["countdown", "geometry"])
def test_vllm_reads_the_head_dtype_from_the_model_and_from_its_text_part(make_config, project, folder):
    from vllm.config import ModelConfig

    images = 1 if folder == "geometry" else None
    overrides = arguments(make_config("rollout.head_dtype=float32"), "bfloat16", images)["hf_overrides"]
    for given, expected in ((overrides, torch.float32), ({}, torch.bfloat16)):
        model = ModelConfig(
            model=str(project / "assets" / folder), dtype="bfloat16", hf_overrides=given, skip_tokenizer_init=True, max_model_len=64
        )
        assert model.head_dtype == expected
        model.hf_config = model.hf_text_config  # as VllmConfig.with_hf_config does for the language model of a vision-language model
        assert model.head_dtype == expected
