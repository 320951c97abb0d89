"""What there is of a model to hold in memory, by its config.json alone."""

from dataclasses import dataclass
from typing import Any

from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.policy_model import meta_policy_model
from uec.models.source import is_vision_language, load_config
from uec.models.vision import vision_tower


@dataclass(frozen=True, slots=True)
class Blocks:
    """The transformer blocks of a language model or of a vision tower. Sizes are numbers of features."""

    layers: int
    hidden: int
    intermediate: int
    query: int  # heads x size of a head
    key: int  # the same of keys, of which there may be fewer; of values, too
    key_heads: int

    def kept(self, width: int, keys: float) -> float:
        """Bytes that one layer keeps of one token for the backward pass, at `width` bytes a number.

        `keys`: keys that are laid out for a token, 1 where none stands twice. Kept are: of each norm its input (float32), what it makes of
        that and what it gives; the query, the attention's answer twice (as it is and in its place in the row), key and value; the
        gate before and after its activation, what it is multiplied by, and their product.
        """
        norms = 2 * (4 * self.hidden + 2 * width * self.hidden)
        return norms + width * (3 * self.query + 2 * keys * self.key + 4 * self.intermediate)


@dataclass(frozen=True, slots=True)
class Shape:
    """A model by its sizes."""

    parameters: int  # the vision tower's included, tied ones once
    trained: int
    head: int  # numbers of the output embedding
    vocabulary: int
    text: Blocks
    vision: Blocks | None
    patches: int  # that the vision tower reads for each image token
    pixels: int  # of a picture, for each image token
    trains_vision: bool

    def kv_bytes(self, width: int) -> int:
        """Keys and values of one token, over all layers, in bytes."""
        return 2 * self.text.layers * self.text.key * width


def shape_of(model: ModelConfig) -> Shape:
    """Count the model's parameters without memory for them (PyTorch's device `meta`). Raises BadInput."""
    config = load_config(model)
    try:
        policy_model = meta_policy_model(model)
    except (ArithmeticError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise BadInput(f"model.path: the config.json of {model.path} makes no model: {type(error).__name__}: {error}") from error
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
        text=_blocks(text),
        vision=None if vision is None else _blocks(vision),
        patches=merged**2,
        pixels=(merged * getattr(vision, "patch_size", 1)) ** 2,
        trains_vision=tower is not None and any(parameter.requires_grad for parameter in tower.parameters()),
    )


def _blocks(config: Any) -> Blocks:
    """By transformers' names, of which families of models have some of their own."""
    layers, hidden = _first(config, "num_hidden_layers", "depth"), _first(config, "hidden_size")
    heads = _first(config, "num_attention_heads", "num_heads", default=1)
    head = getattr(config, "head_dim", None) or hidden // heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    return Blocks(layers, hidden, _first(config, "intermediate_size", default=4 * hidden), heads * head, keys * head, keys)


def _first(config: Any, *names: str, default: int = 0) -> int:
    return next((int(value) for name in names if (value := getattr(config, name, None)) is not None), default)
