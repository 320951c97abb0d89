"""The tokens that exist and those that end a response. Engine and learner must use the same ones."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.pretrained import end_tokens, load_config, locate_model, read_model_json
from uec.types import Prompt

NEVER_READ = re.compile(r"image|img|video|vision|audio|sound", re.IGNORECASE)
"""Names of tokens that a text model's tokenizer shares with an image model, and that have no embedding there (Gemma 3)."""


def vocabulary_size(tokenizer: Any) -> int:
    """Return the number of token ids that exist. An embedding is often padded beyond it; the ids of the padding must get no probability.

    This is the largest id plus one, not len(tokenizer), because some tokenizers skip ids.
    """
    return max(tokenizer.get_vocab().values()) + 1


def stop_tokens(model: ModelConfig, tokenizer: Any, more: Sequence[int] = ()) -> list[int]:
    """Return the tokens that end a response: the tokenizer's end-of-text token, those of generation_config.json, and `more`."""
    return sorted({tokenizer.eos_token_id, *end_tokens(read_model_json(locate_model(model), "generation_config.json")), *more})


def check_vocabulary(model: ModelConfig, tokenizer: Any) -> None:
    """Raise BadInput for a tokenizer with tokens beyond the embedding, which would end the first step with an IndexError.

    The padding token and those of images and sound are never read by a text model and may lie beyond it.
    """
    rows = load_config(model).get_text_config().vocab_size
    beyond = {i: token for token, i in tokenizer.get_vocab().items() if i >= rows}
    read = {i: token for i, token in beyond.items() if i != tokenizer.pad_token_id and not NEVER_READ.search(token)}
    if read:
        i, token = min(read.items())
        raise BadInput(
            f"model.path: the tokenizer of {model.path} has token ids up to {max(beyond)}, and the embedding has {rows} rows (vocab_size "
            f"of config.json), so that {token[:40]!r}, token {i}, has none: tokens were added without resize_token_embeddings; resize the "
            "model, or take the tokenizer that belongs to it"
        )


def check_prompts(model: ModelConfig, tokenizer: Any, prompts: Iterable[Prompt]) -> None:
    """Raise BadInput for a prompt with a token that has no embedding."""
    rows = load_config(model).get_text_config().vocab_size
    for prompt in prompts:
        if prompt.tokens.max(initial=0) >= rows:
            token = int(prompt.tokens.max())
            raise BadInput(
                f"model.path: a prompt holds {str(tokenizer.convert_ids_to_tokens(token))[:40]!r}, token {token}, and the embedding of "
                f"{model.path} has {rows} rows; take the tokenizer that belongs to the model, or remove the token from the data"
            )
