"""Liger's kernels, with a stand-in for the package, whose kernels run on GPUs only.

The stand-in has the signatures of liger_kernel 0.8.5 (transformers/monkey_patch.py:1750, :3219, :2945).
"""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from uec.config.schema import Config, LearnerConfig
from uec.errors import BadInput
from uec.models.liger import use_liger
from uec.system.platform import detect


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Install the stand-in. Returns the arguments of each call."""
    made: list[dict] = []

    def qwen2(rope=True, cross_entropy=False, fused_linear_cross_entropy=True, rms_norm=True, swiglu=True, model=None):
        made.append(locals() | {"kind": "qwen2"})

    def qwen3_5(rope=False, cross_entropy=False, fused_linear_cross_entropy=True, rms_norm=True, swiglu=True, model=None):
        made.append(locals() | {"kind": "qwen3_5"})

    def smolvlm(cross_entropy=False, fused_linear_cross_entropy=True, rms_norm=True, layer_norm=True, model=None, **kwargs):
        made.append(locals() | {"kind": "smolvlm"})

    package, transformers = ModuleType("liger_kernel"), ModuleType("liger_kernel.transformers")
    package.transformers = transformers
    for apply in (qwen2, qwen3_5, smolvlm):
        setattr(transformers, f"apply_liger_kernel_to_{apply.__name__}", apply)
    monkeypatch.setitem(sys.modules, "liger_kernel", package)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", transformers)
    return made


def model(kind: str) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(model_type=kind))


@pytest.mark.parametrize("kind, rope", [("qwen2", True), ("qwen3_5", False), ("smolvlm", None)])
def test_norms_mlps_and_rotary_embeddings_are_replaced_but_not_the_forward_pass(calls, kind, rope):
    hf = model(kind)
    use_liger(hf)
    [call] = calls
    assert call["kind"] == kind and call["model"] is hf
    assert call["rms_norm"] is True and call.get("swiglu", True) is True
    assert call["cross_entropy"] is False and call["fused_linear_cross_entropy"] is False
    assert call.get("rope") is rope  # Qwen3.5's function has no rotary embedding yet, and says so by its default


def test_an_unknown_architecture_a_missing_package_and_a_cpu_are_refused(calls, monkeypatch):
    with pytest.raises(BadInput, match="learner.liger=true: Liger has no kernels for models of type gpt2"):
        use_liger(model("gpt2"))
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", None)
    with pytest.raises(BadInput, match="learner.liger=true needs the package liger-kernel.*extra `liger`"):
        use_liger(model("qwen2"))
    cfg = Config(learner=LearnerConfig(liger=True))
    with pytest.raises(BadInput, match="learner.liger=true needs CUDA devices"):
        detect(cfg, "cpu")
    assert detect(cfg, "cuda").device == "cuda"
