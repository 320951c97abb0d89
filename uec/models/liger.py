"""Liger's fused kernels for RMSNorm, SwiGLU and RoPE in a loaded model (learner.liger)."""

import inspect
from typing import Any

from uec.errors import BadInput

PREFIX = "apply_liger_kernel_to_"


def use_liger(hf: Any) -> None:
    """Replace norms, MLPs and rotary embeddings of a transformers model by Liger's public function for its architecture.

    Liger's forward passes with fused cross entropy are left out: the policy never computes logits of all positions.
    Raises BadInput if Liger is not installed or does not know the architecture.
    """
    try:
        import liger_kernel.transformers as liger
    except ImportError as error:
        raise BadInput(
            f"learner.liger=true needs the package liger-kernel ({error}); install the extra `liger`, or set learner.liger=false"
        ) from error
    kind = hf.config.model_type
    apply = getattr(liger, PREFIX + kind, None)
    if apply is None:
        raise BadInput(f"learner.liger=true: Liger has no kernels for models of type {kind}; set learner.liger=false")
    wanted = {"rope": True, "rms_norm": True, "swiglu": True, "geglu": True, "cross_entropy": False, "fused_linear_cross_entropy": False}
    taken = inspect.signature(apply).parameters
    # Where Liger does not support a replacement yet, its function switches it off by default.
    applied = {name: value and taken[name].default is not False for name, value in wanted.items() if name in taken}
    apply(model=hf, **applied)
