"""The choices that depend on the hardware."""

import pytest

from uec.config.schema import Config
from uec.errors import BadInput
from uec.system.platform import Platform, detect


def config(**changes: object) -> Config:
    cfg = Config()
    for path, value in changes.items():
        section, field = path.split("__")
        setattr(getattr(cfg, section), field, value)
    return cfg


def test_a_cpu_uses_float32_gloo_shared_memory_and_an_engine_in_the_actor():
    assert detect(Config(), "cpu") == Platform("cpu", "float32", "gloo", "shm", "in_actor")


def test_a_gpu_uses_bfloat16_nccl_and_asyncllm():
    assert detect(Config(), "cuda") == Platform("cuda", "bfloat16", "nccl", "nccl", "async", "varlen")
    assert detect(config(cluster__placement="colocated"), "cuda").weights == "ipc"


def test_explicit_settings_are_kept():
    platform = detect(config(model__dtype="bfloat16", rollout__backend="async"), "cpu")
    assert (platform.dtype, platform.engine) == ("bfloat16", "async")
    assert detect(config(weights__backend="shm", model__dtype="float32"), "cuda").weights == "shm"


def test_the_default_device_is_that_of_the_process(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert detect(Config()).device == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert detect(Config()).device == "cpu"


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"weights__backend": "nccl"}, "weights.backend=nccl"),
        ({"model__dtype": "float16"}, "model.dtype=float16"),
        ({"model__dtype": "bfloat16", "learner__zero_stage": 0}, "learner.zero_stage=0"),
    ],
)
def test_an_unsupported_setting_of_a_cpu_or_the_learner_is_refused(changes, field):
    with pytest.raises(BadInput, match=field):
        detect(config(**changes), "cpu")
