"""The sizes of a model that decide its memory, from its config.json alone."""

from dataclasses import dataclass
from typing import Any

from uec.config.schema import LoraConfig, ModelConfig
from uec.models.model_config import is_vision_language
from uec.models.policy_model import meta_policy_model
from uec.models.pretrained import load_config
from uec.models.vision import vision_tower


@dataclass(frozen=True, slots=True)
class Layers:
    """The transformer layers of a language model or of a vision tower. Sizes are numbers of features."""

    count: int
    hidden: int
    intermediate: int
    query: int  # heads times the size of a head
    key: int  # the same for keys, and for values; smaller with grouped-query attention
    key_heads: int

    def kept_bytes(self, width: int, keys: float) -> float:
        """Return the bytes that one layer keeps per token for the backward pass, at `width` bytes an element.

        `keys`: copies of keys and values per token, 1 without a shared prompt. A layer keeps: for each norm its input (float32), the
        normalised input and the output; the query, the attention output twice (as computed, and at its place in the row), key and
        value; the gate before and after its activation, the factor of that, and their product.
        """
        norms = 2 * (4 * self.hidden + 2 * width * self.hidden)
        return norms + width * (3 * self.query + 2 * keys * self.key + 4 * self.intermediate)


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model."""

    parameters: int  # with those of the vision tower; tied parameters count once
    trained: int
    head: int  # elements of the output embedding
    vocabulary: int
    text: Layers
    vision: Layers | None
    patches: int  # patches that the vision tower reads per image token
    pixels: int  # pixels of an image per image token
    trains_vision: bool

    def kv_bytes(self, width: int) -> int:
        """Return the bytes of one token's keys and values over all layers, at `width` bytes an element."""
        return 2 * self.text.count * self.text.key * width


def shape_of(model: ModelConfig, lora: LoraConfig | None = None) -> Shape:
    """Return the model's sizes, without memory for its parameters (PyTorch's device `meta`). With LoRA, only adapters are trained.

    Raises BadInput.
    """
    config = load_config(model)
    policy_model = meta_policy_model(model, lora)
    hf = policy_model.policy.hf
    text = config.get_text_config()
    tower = vision_tower(hf) if is_vision_language(config) else None
    vision = getattr(config, "vision_config", None)
    merged = getattr(vision, "spatial_merge_size", 1)
    return Shape(
        parameters=sum(parameter.numel() for parameter in hf.parameters()),
        trained=sum(parameter.numel() for _, parameter in policy_model.trainable()),
        head=text.vocab_size * text.hidden_size,
        vocabulary=text.vocab_size,
        text=_layers(text),
        vision=None if vision is None else _layers(vision),
        patches=merged**2,
        pixels=(merged * getattr(vision, "patch_size", 1)) ** 2,
        trains_vision=tower is not None and any(parameter.requires_grad for parameter in tower.parameters()),
    )


def _layers(config: Any) -> Layers:
    """Read the sizes under the different names that model families give them in transformers."""
    layers, hidden = _first(config, "num_hidden_layers", "depth"), _first(config, "hidden_size")
    heads = _first(config, "num_attention_heads", "num_heads", default=1)
    head = getattr(config, "head_dim", None) or hidden // heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    return Layers(layers, hidden, _first(config, "intermediate_size", default=4 * hidden), heads * head, keys * head, keys)


def _first(config: Any, *names: str, default: int = 0) -> int:
    return next((int(value) for name in names if (value := getattr(config, name, None)) is not None), default)
