"""Which tokens exist and which of them end a response: what engine and learner have to agree on."""

from typing import Any

from uec.config.schema import ModelConfig
from uec.models.source import locate_model


def vocabulary_size(tokenizer: Any) -> int:
    """Tokens that exist. A model's embedding is often padded beyond them: those ids must get no probability.

    The largest id counts, not len(tokenizer): some tokenizers leave ids out below it.
    """
    return max(tokenizer.get_vocab().values()) + 1


def stop_tokens(model: ModelConfig, tokenizer: Any) -> list[int]:
    """Tokens that end a response: those of the model's generation config, and the tokenizer's end-of-text token."""
    from transformers import GenerationConfig

    ends = {tokenizer.eos_token_id}
    try:
        named = GenerationConfig.from_pretrained(locate_model(model)).eos_token_id
    except OSError:  # the model has none
        named = None
    if named is not None:
        ends.update([named] if isinstance(named, int) else named)
    return sorted(ends)
