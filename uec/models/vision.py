"""The vision side of a model's forward pass: its vision tower, inputs for images, and positions of image tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uec.errors import RunFailed
from uec.models.attention import takes_head
from uec.models.image_features import joined
from uec.types import ImageFeatures, Tokens


def vision_tower(hf: Any) -> nn.Module | None:
    """Return the module that turns images into features, and None for a text model. It includes the projector where both are one module."""
    tower = hf.get_encoder(modality="image")
    return None if tower in (hf, hf.base_model) else tower


VARLEN = "uec_flash_varlen"
"""The name of `_varlen` in transformers, which passes the lengths of all images at once to attention whose name contains "flash"."""


def use_varlen(hf: Any) -> None:
    """Compute the attention of a Qwen-VL tower by torch's FlashAttention: one call a layer, instead of one for each window and image.

    Other models, and towers with a head dimension that FlashAttention does not take, keep SDPA.
    """
    from transformers import AttentionInterface

    tower = vision_tower(hf)
    if tower is None or not hasattr(hf.base_model, "get_rope_index"):
        return
    config: Any = tower.config
    width = getattr(config, "embed_dim", None) or config.hidden_size  # Qwen2-VL's hidden_size is the text model's
    if takes_head(width // config.num_heads):
        AttentionInterface.register(VARLEN, _varlen)
        config._attn_implementation = VARLEN


def _varlen(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, cu_seq_lens_q: Tensor, max_length_q: Any,
    scaling: float | None = None, **kwargs: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Implement transformers' attention interface for query, key and value [1, H, L, D] of a tower. Returns [1, L, H, D]."""
    from torch.nn.attention import varlen

    query_LHD, key_LHD, value_LHD = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    offsets, longest = cu_seq_lens_q.to(torch.int32), int(max_length_q)
    attended: Any = varlen.varlen_attn(query_LHD, key_LHD, value_LHD, offsets, offsets, longest, longest, scale=scaling)
    return attended[None], None


class Vision:
    """The vision side of a transformers model `hf`.

    `image_token`: replaced by a feature; `blank`: the features of a small image; `blank_tokens`: a prompt of this image only.
    """

    def __init__(self, hf: Any, image_token: int, blank_tokens: Tokens, blank: ImageFeatures) -> None:
        self.image_token = image_token
        self.blank_tokens = blank_tokens
        self.blank = blank
        self._rope_index = getattr(hf.base_model, "get_rope_index", None)  # M-RoPE of the Qwen-VL models and their relatives

    @property
    def has_mrope(self) -> bool:
        """Return whether image tokens have 3-dimensional positions (M-RoPE)."""
        return self._rope_index is not None

    def check(self, row: Sequence[Any], features: ImageFeatures | None) -> None:
        """Raise RunFailed with the prompt unless a row of responses has as many image tokens as features."""
        prompt = row[0]
        count = int((prompt.prompt_tokens == self.image_token).sum())
        expected = 0 if features is None else features.tokens
        if count != expected:
            raise RunFailed(
                f"prompt {prompt.prompt} has {count} image tokens and features for {expected}: its images are not those that it was "
                "tokenised with; were files changed during the run?"
            )
        for response in row:
            if (response.tokens == self.image_token).any():
                raise RunFailed(f"a response to prompt {prompt.prompt} holds an image token, which no engine may sample")

    def positions(self, tokens: Tokens, features: ImageFeatures | None) -> NDArray[np.int64] | None:
        """Return a prompt's positions [3, P] as transformers computes them; None where they are 0 .. P - 1."""
        if self._rope_index is None or features is None:
            return None
        ids_1P = torch.from_numpy(tokens.astype(np.int64))[None]
        grids = {name: torch.from_numpy(np.array(array)) for name, array in features.inputs.items() if name.endswith("_grid_thw")}
        positions_31P, _ = self._rope_index(ids_1P, mm_token_type_ids=(ids_1P == self.image_token).int(), **grids)
        return positions_31P[:, 0].numpy()

    def inputs(self, features: Sequence[ImageFeatures]) -> dict[str, Tensor]:
        """Concatenate the image inputs of all prompts, by the names of the forward pass's arguments."""
        names = features[0].inputs if features else {}
        axis = 1 if "pixel_attention_mask" in names else 0  # Idefics3 and SmolVLM, with a mask: [1, images, ...]
        return {name: joined(features, name, axis) for name in names}
