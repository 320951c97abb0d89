"""The tokens that exist and those that end a response. Engine and learner must use the same ones."""

from typing import Any

from uec.config.schema import ModelConfig
from uec.models.pretrained import locate_model


def vocabulary_size(tokenizer: Any) -> int:
    """Return the number of token ids that exist. An embedding is often padded beyond it; the ids of the padding must get no probability.

    This is the largest id plus one, not len(tokenizer), because some tokenizers skip ids.
    """
    return max(tokenizer.get_vocab().values()) + 1


def stop_tokens(model: ModelConfig, tokenizer: Any) -> list[int]:
    """Return the tokens that end a response: those of the model's generation config, and the tokenizer's end-of-text token."""
    from transformers import GenerationConfig

    ends = {tokenizer.eos_token_id}
    try:
        named = GenerationConfig.from_pretrained(locate_model(model)).eos_token_id
    except OSError:  # no generation config
        named = None
    if named is not None:
        ends.update([named] if isinstance(named, int) else named)
    return sorted(ends)
