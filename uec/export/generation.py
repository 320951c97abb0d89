"""generation_config.json: sample as in training, and end where training's responses end."""

import json
from typing import Any

from uec.config.schema import Config
from uec.models.source import resolve_model
from uec.models.vocabulary import stop_tokens


def generation_config(cfg: Config, tokenizer: Any) -> dict[str, Any]:
    """The model's own with the sampling of `rollout`. A length is not set: it would bind a server's every answer."""
    from transformers import GenerationConfig

    try:
        given = json.loads(GenerationConfig.from_pretrained(resolve_model(cfg.model)).to_json_string())
    except OSError:  # the model has none
        given = {}
    rollout = cfg.rollout
    found = {key: value for key, value in given.items() if key not in ("_from_model_config", "max_length", "max_new_tokens")}
    found |= {"do_sample": True, "temperature": rollout.temperature, "top_p": rollout.top_p, "top_k": max(0, rollout.top_k)}
    if rollout.min_p:
        found["min_p"] = rollout.min_p
    ends = stop_tokens(cfg.model, tokenizer)
    found["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    if found.get("pad_token_id") is None and tokenizer.pad_token_id is not None:
        found["pad_token_id"] = tokenizer.pad_token_id
    return found
