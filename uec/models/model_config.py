"""Read and check config.json: numbers that make a model, and the model's names and shapes without memory for its weights."""

from typing import TYPE_CHECKING, Any

from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.weight_files import WEIGHTS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

LAYERS, WIDTH, HEADS, CONTEXT, EXPERTS = 1 << 10, 1 << 17, 1 << 12, 1 << 27, 1 << 14
LARGEST = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layers", "n_layer"), LAYERS),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), WIDTH),
    "intermediate_size": 1 << 20,
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_heads", "n_head", "head_dim"), HEADS),
    "vocab_size": 1 << 24,
    **dict.fromkeys(("max_position_embeddings", "n_positions"), CONTEXT),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), EXPERTS),
}
"""Sizes that config.json may have, each from 1 to about ten times the largest known model's."""
OPTIONAL = ("num_experts", "num_local_experts", "n_routed_experts", "num_key_value_heads", "n_layer")
"""Sizes of which 0 means none."""
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")
NOT_GENERATIVE = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM", "ForRewardModel")
"""Ends of the names of architectures that write no text. GPT-2's class ends in LMHeadModel, so that a whole name is compared first."""
LONGEST = 300
UNREADABLE = (OSError, ValueError, LookupError, ImportError, TypeError, AttributeError, ArithmeticError, RuntimeError, AssertionError)
"""What transformers raises for a config.json that makes no model; RecursionError is a RuntimeError."""


def read_config(path: str, model: ModelConfig) -> "PreTrainedConfig":
    """Return the config in a folder or hub name. Raises BadInput if transformers cannot read it or it describes no model."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, PreTrainedConfig

    try:
        content, _ = PreTrainedConfig.get_config_dict(path)
        _check_sizes(dict(content), model)  # before transformers makes lists of so many layers
        config = AutoConfig.from_pretrained(path, trust_remote_code=model.trust_remote_code)
    except (*UNREADABLE, StrictDataclassError) as error:
        raise BadInput(f"model.path: the config.json of {model.path} cannot be used: {advise_on_code(error, model)}") from error
    _check_quantisation(config, model)
    if (weights := getattr(config, "transformers_weights", None)) not in (None, WEIGHTS):
        raise BadInput(
            f"model.path: the config.json of {model.path} names other weights, {str(weights)[:60]!r} (transformers_weights), than "
            f"{WEIGHTS}, which the engine reads; remove it"
        )
    _check_heads(config.get_text_config(), model)
    _check_architecture(config, model)
    return config


def is_vision_language(config: "PreTrainedConfig") -> bool:
    """Return whether the model reads images and text and writes text."""
    from transformers import AutoModelForImageTextToText

    return hasattr(config, "vision_config") and type(config) in AutoModelForImageTextToText._model_mapping


def auto_class(config: "PreTrainedConfig") -> Any:
    """Return transformers' class that builds the model of a config: for images and text, or for text."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if is_vision_language(config) else AutoModelForCausalLM


def full_attention(config: "PreTrainedConfig") -> bool:
    """Return whether every layer attends to all previous tokens, so that one mask serves all layers."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    return set(kinds) == {"full_attention"} if kinds else not getattr(text, "sliding_window", None)


def model_class(config: "PreTrainedConfig") -> Any:
    """Return the class of the model of a config; None for a model with code of its own."""
    mapping = auto_class(config)._model_mapping
    return mapping[type(config)] if type(config) in mapping else None


def takes_packed_rows(config: "PreTrainedConfig") -> bool:
    """Return whether all layers have full attention, and transformers lets another function compute it."""
    kind = model_class(config)
    return full_attention(config) and (kind is None or bool(kind._supports_attention_backend))


def meta_model(config: "PreTrainedConfig", model: ModelConfig) -> Any:
    """Return the model of a config on PyTorch's device `meta`: names and shapes without weights. Raises BadInput."""
    import torch

    try:
        with torch.device("meta"):
            return auto_class(config).from_config(config, trust_remote_code=model.trust_remote_code)
    except UNREADABLE as error:
        raise BadInput(f"model.path: the config.json of {model.path} makes no model: {type(error).__name__}: {shortened(error)}") from error


def advise_on_code(error: Exception, model: ModelConfig) -> str:
    """Return an error's text in a few words, or the setting that allows the model's own code."""
    if "trust_remote_code" in str(error) and not model.trust_remote_code:
        return "it contains Python code; if you trust its source, set model.trust_remote_code=true"
    return shortened(error)


def shortened(error: Exception) -> str:
    """Return an error's text on one line of at most LONGEST characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _check_quantisation(config: "PreTrainedConfig", model: ModelConfig) -> None:
    found = getattr(config, "quantization_config", None) or getattr(config, "compression_config", None)
    if not found:
        return
    settings = found if isinstance(found, dict) else vars(found)
    method = settings.get("quant_method") or settings.get("format") or "unknown"
    raise BadInput(
        f"model.path: the weights of {model.path} are quantised (config.json: quant_method {str(getattr(method, 'value', method))[:40]}), "
        "and quantised weights cannot be trained; give the model's unquantised weights"
    )


def _check_architecture(config: "PreTrainedConfig", model: ModelConfig) -> None:
    """Refuse a model of the family that writes no text: vLLM builds the class that config.json names, transformers another one."""
    named = list(getattr(config, "architectures", None) or ())
    kind = model_class(config)
    if kind is not None and named and kind.__name__ not in named and str(named[0]).endswith(NOT_GENERATIVE):
        raise BadInput(
            f"model.path: the config.json of {model.path} is that of {str(named[0])[:60]}, which writes no text; take the family's "
            f"{kind.__name__}"
        )


def _check_sizes(content: dict[str, Any], model: ModelConfig) -> None:
    """Refuse sizes of which transformers makes an empty model or an endless one, in config.json and its sections."""
    for name, size in content.items():
        if isinstance(size, dict):
            _check_sizes(size, model)
        elif isinstance(size, int) and name in LARGEST and not (size == 0 and name in OPTIONAL) and not 1 <= size <= LARGEST[name]:
            raise BadInput(
                f"model.path: the config.json of {model.path} has {name}={brief_number(size)}; expected 1 to {LARGEST[name]}. Copy the "
                "model's own config.json again"
            )


def _check_heads(text: "PreTrainedConfig", model: ModelConfig) -> None:
    """Refuse heads with which attention fails at the first step, and unknown activations."""
    where = f"model.path: the config.json of {model.path} has"
    hidden, heads, keys = (getattr(text, name, None) for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    if not isinstance(hidden, int) or not isinstance(heads, int):
        return
    if isinstance(keys, int) and heads % keys:
        raise BadInput(f"{where} num_attention_heads={heads}, which num_key_value_heads={keys} does not divide; correct config.json")
    head = getattr(text, "head_dim", None) or hidden // heads
    if hidden % heads and head == hidden // heads and not hasattr(text, "kv_lora_rank"):
        raise BadInput(f"{where} hidden_size={hidden}, which num_attention_heads={heads} does not divide; correct config.json")
    _check_activation(text, where)


def _check_activation(text: "PreTrainedConfig", where: str) -> None:
    from transformers.activations import ACT2FN

    for name in ACTIVATIONS:
        activation = getattr(text, name, None)
        if isinstance(activation, str) and activation not in ACT2FN:
            raise BadInput(f"{where} {name}={activation[:60]!r}, which transformers does not know; e.g. silu or gelu_pytorch_tanh")


def brief_number(number: int) -> str:
    """Return a number's digits, or its magnitude if there are too many."""
    return str(number) if abs(number) < 10**12 else f"about {'-' * (number < 0)}2^{number.bit_length()}"
