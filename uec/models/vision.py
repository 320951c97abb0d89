"""What the forward pass of a vision-language model needs beside tokens: features of images, and positions of image tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uec.errors import RunFailed
from uec.types import ImageFeatures, Tokens


def vision_tower(hf: Any) -> nn.Module | None:
    """Return the module that turns images into features, and None for a text model. It includes the projector where both are one module."""
    tower = hf.get_encoder(modality="image")
    return None if tower in (hf, hf.base_model) else tower


class Vision:
    """The vision side of a transformers model `hf`.

    `image_token` stands where a feature goes; `blank` is a small picture's features, `blank_tokens` a prompt of nothing else.
    """

    def __init__(self, hf: Any, image_token: int, blank_tokens: Tokens, blank: ImageFeatures) -> None:
        self.image_token = image_token
        self.blank_tokens = blank_tokens
        self.blank = blank
        self._rope_index = getattr(hf.base_model, "get_rope_index", None)  # M-RoPE, of the Qwen-VL models and their kin

    @property
    def has_own_positions(self) -> bool:
        """Whether image tokens have positions of their own (M-RoPE)."""
        return self._rope_index is not None

    def check(self, row: Sequence[Any], features: ImageFeatures | None) -> None:
        """Raise RunFailed, naming the prompt, unless a row of responses has as many image tokens as there are features for."""
        prompt = row[0]
        count = int((prompt.prompt_tokens == self.image_token).sum())
        expected = 0 if features is None else features.tokens
        if count != expected:
            raise RunFailed(
                f"prompt {prompt.prompt} has {count} image tokens and features for {expected}: its pictures are not those that it was "
                "tokenised with; were files changed during the run?"
            )
        for response in row:
            if (response.tokens == self.image_token).any():
                raise RunFailed(f"a response to prompt {prompt.prompt} holds an image token, which no engine may sample")

    def positions(self, tokens: Tokens, features: ImageFeatures | None) -> NDArray[np.int64] | None:
        """[3, P] of a prompt, as transformers gives them; None where they are 0 .. P - 1."""
        if self._rope_index is None or features is None:
            return None
        ids_1P = torch.from_numpy(tokens.astype(np.int64))[None]
        grids = {name: torch.from_numpy(np.array(array)) for name, array in features.inputs.items() if name.endswith("_grid_thw")}
        positions_31P, _ = self._rope_index(ids_1P, mm_token_type_ids=(ids_1P == self.image_token).int(), **grids)
        return positions_31P[:, 0].numpy()

    def inputs(self, features: Sequence[ImageFeatures]) -> dict[str, Tensor]:
        """The images of all prompts, one after the other, by the names that the model's forward pass knows."""
        names = features[0].inputs if features else {}
        axis = 1 if "pixel_attention_mask" in names else 0  # [1, images, ...] of all arrays in Idefics3 and SmolVLM, which alone have one
        return {name: torch.from_numpy(np.concatenate([found.inputs[name] for found in features], axis)) for name in names}
