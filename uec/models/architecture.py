"""What a model's architecture means for its training: rows that are padded, experts, and models that are refused."""

from typing import TYPE_CHECKING

from uec.config.schema import LearnerConfig
from uec.errors import BadInput
from uec.models.model_config import full_attention, model_class, takes_packed_rows

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Names of the number of experts in config.json."""


def architecture_notes(settings: LearnerConfig, config: "PreTrainedConfig") -> list[str]:
    """Return what a user should know of how the learner computes a model with this config."""
    name = getattr(model_class(config), "__name__", type(config).__name__)
    notes = []
    if settings.shared_prefix and not takes_packed_rows(config):
        notes.append(f"{name} {_why_padded(config)}: every response has a padded row, and learner.shared_prefix has no effect")
    if experts := _experts(config):
        notes.append(f"{name} has {experts} experts per layer, all of which are trained; the loss has no term that balances their load")
    return notes


def check_device(config: "PreTrainedConfig", device: str, dtype: str) -> None:
    """Raise BadInput for a model that vLLM's CPU kernels cannot compute, or whose experts keep stale weights there.

    `dtype`: `model.dtype`, where auto is float32 on CPU.
    """
    if device != "cpu":
        return
    if dtype != "bfloat16" and hasattr(config.get_text_config(), "linear_num_value_heads"):
        raise BadInput(
            f"model.dtype={dtype}: vLLM's CPU kernels compute gated linear attention (GatedDeltaNet) in bfloat16 only; set "
            "model.dtype=bfloat16, or use GPUs"
        )
    if _experts(config):
        raise BadInput(
            "model.path: vLLM's CPU kernels keep a packed copy of a mixture-of-experts model's experts that an update does not "
            "renew, so it cannot be trained on CPU; take a dense model, or GPUs"
        )


def _why_padded(config: "PreTrainedConfig") -> str:
    if full_attention(config):
        return "takes no other attention function"
    text = config.get_text_config()
    kinds = sorted(set(getattr(text, "layer_types", None) or ())) or [f"sliding windows of {text.sliding_window} tokens"]
    return f"has {' and '.join(kinds)} in its layers"


def _experts(config: "PreTrainedConfig") -> int:
    """Return the number of experts of a layer, 0 for a dense model."""
    text = config.get_text_config()
    sizes = (getattr(text, name, None) for name in EXPERTS)
    return next((size for size in sizes if isinstance(size, int) and size > 1), 0)
