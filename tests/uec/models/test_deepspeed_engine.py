"""The arguments of DeepSpeed's engines."""

from types import SimpleNamespace

import pytest
import torch

import uec.models.deepspeed_engine as deepspeed_engine
from uec.config.schema import Config, LearnerConfig
from uec.config.validate import validate
from uec.errors import BadInput
from uec.system.platform import Platform, detect

CUDA = detect(Config(), "cuda")
CPU = detect(Config(), "cpu")


def initialized(monkeypatch, platform: Platform, **settings) -> dict:
    """Return the arguments with which a training engine is made."""
    given = {}

    def initialize(**arguments):
        given.update(arguments)
        return SimpleNamespace(train=lambda: None), None

    monkeypatch.setattr("deepspeed.initialize", initialize)
    module = torch.nn.Linear(2, 2)
    monkeypatch.setattr(deepspeed_engine, "vision_tower", lambda hf: None)
    policy = SimpleNamespace(hf=module)
    deepspeed_engine.make_engine(policy, module.named_parameters(), LearnerConfig(**settings), platform)
    return given


@pytest.mark.parametrize("platform", [CUDA, CPU], ids=["cuda", "cpu"])
def test_the_optimizer_is_torchs_fused_adamw_which_needs_no_compilation(monkeypatch, platform):
    # torch/optim/adamw.py passes `fused` to Adam, whose _fused_adam calls torch._fused_adamw_ once for all tensors of a device.
    # deepspeed/ops/adam/fused_adam.py:85 loads FusedAdamBuilder, which compiles a CUDA extension at start-up.
    optimizer = initialized(monkeypatch, platform)["optimizer"]
    assert type(optimizer) is torch.optim.AdamW and optimizer.defaults["fused"] is True


def test_states_in_host_memory_are_deepspeeds_offload_and_pinned_on_cuda(monkeypatch):
    def zero(platform: Platform, **settings) -> dict:
        config = initialized(monkeypatch, platform, **settings)["config"]
        assert config["zero_force_ds_cpu_optimizer"] is False  # engine.py:2344 would refuse torch's AdamW
        return config["zero_optimization"]

    assert zero(CUDA) == {"stage": 1}
    pinned = {"device": "cpu", "pin_memory": True}
    assert zero(CUDA, cpu_offload="optimizer") == {"stage": 1, "offload_optimizer": pinned}
    both = {"stage": 3, "offload_optimizer": pinned, "offload_param": pinned}
    assert zero(CUDA, cpu_offload="parameters", zero_stage=3) == both
    assert zero(CPU, cpu_offload="optimizer")["offload_optimizer"] == {"device": "cpu", "pin_memory": False}


def test_an_engine_for_inference_has_no_optimizer_to_offload(monkeypatch):
    given = {}
    monkeypatch.setattr("deepspeed.initialize", lambda **arguments: (given.update(arguments) or torch.nn.Identity(), None))
    settings = LearnerConfig(zero_stage=3, cpu_offload="parameters")
    deepspeed_engine.make_inference_engine(torch.nn.Linear(2, 2), settings, CUDA)
    assert given["config"]["zero_optimization"] == {"stage": 3, "offload_param": {"device": "cpu", "pin_memory": True}}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"cpu_offload": "parameters", "zero_stage": 2}, "learner.cpu_offload=parameters needs partitioned weights.*zero_stage=2"),
        ({"cpu_offload": "optimizer", "zero_stage": 0}, "learner.cpu_offload=optimizer needs ZeRO"),
        ({"cpu_offload": "parameters", "zero_stage": 3, "offload": "all"}, "learner.offload=all has no states to move"),
    ],
)
def test_offload_that_deepspeed_does_not_support_is_refused(changes, message):
    cfg = Config(learner=LearnerConfig(**changes))
    cfg.model.path = cfg.data.train = "x"
    with pytest.raises(BadInput, match=message):
        validate(cfg)
