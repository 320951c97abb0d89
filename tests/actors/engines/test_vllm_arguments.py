"""The arguments with which vLLM's engine is built."""

from collections.abc import Callable
from pathlib import Path

import pytest

from actors.engines.vllm.job import engine_arguments, environment
from tests.support import tiny_vlm
from uec.config.schema import Config
from uec.memory.placement import resolve_placement
from uec.system.gpu_devices import Gpu
from uec.system.platform import detect

H100 = Gpu("NVIDIA H100 80GB HBM3", 80 << 30)


def arguments(cfg: Config, images: int | None = None, device: str = "cuda") -> dict:
    return engine_arguments(cfg, detect(cfg, device), 0, "model", 4096, images)


def test_the_engine_gets_the_resolved_number_of_sequences_and_share_of_the_gpu(make_config: Callable[..., Config]) -> None:
    cfg = make_config("rollout.max_num_seqs=null", "rollout.max_batched_tokens=512")
    resolve_placement(cfg, 2, H100)
    found = arguments(cfg)
    assert (found["max_num_seqs"], found["max_num_batched_tokens"], found["gpu_memory_utilization"]) == (1024, 1024, 0.85)
    assert arguments(make_config("rollout.max_num_seqs=null"), device="cpu")["max_num_seqs"] == 256


def test_no_sampler_is_compiled_at_the_start(make_config: Callable[..., Config]) -> None:
    assert environment(make_config())["VLLM_USE_FLASHINFER_SAMPLER"] == "0"


def test_vllm_gets_the_limits_of_image_sizes(make_config: Callable[..., Config]) -> None:
    both = make_config("data.image.min_pixels=3136", "data.image.max_pixels=1003520")
    assert arguments(both, images=1)["mm_processor_kwargs"] == {"min_pixels": 3136, "max_pixels": 1003520}
    assert arguments(make_config("data.image.max_pixels=1003520"), images=1)["mm_processor_kwargs"] == {"max_pixels": 1003520}
    assert "mm_processor_kwargs" not in arguments(make_config(), images=1)
    assert "mm_processor_kwargs" not in arguments(both, images=None)


@pytest.mark.e2e
@pytest.mark.parametrize(("family", "side"), [("qwen2_vl", 28), ("qwen2_5_vl", 28), ("qwen3_vl", 32)])
def test_vllm_measures_its_memory_with_the_largest_allowed_image(
    family: str, side: int, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    from vllm.config import ModelConfig
    from vllm.multimodal import MULTIMODAL_REGISTRY

    folder = tiny_vlm.build(family, tmp_path / family)
    found = arguments(make_config(f"data.image.max_pixels={5 * side * side}"), images=1)
    names = ("mm_processor_kwargs", "limit_mm_per_prompt", "mm_processor_cache_gb")
    model = ModelConfig(model=str(folder), dtype="float32", **{name: found[name] for name in names})
    assert MULTIMODAL_REGISTRY.create_processor(model).info.get_max_image_tokens() == 5
