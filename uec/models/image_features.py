"""Image features in bfloat16: half the bytes on their way from ImageActors to engines and learners that compute in bfloat16 anyway.

The vision tower rounds its inputs to its own number format first, so the result is the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from uec.types import ImageFeatures

if TYPE_CHECKING:
    from torch import Tensor


def halved(features: ImageFeatures) -> ImageFeatures:
    """Return the features with their float32 inputs as bfloat16, rounded to nearest; NumPy holds the bits as uint16."""
    import torch

    names = tuple(name for name, array in features.inputs.items() if array.dtype == np.float32)
    inputs = {name: torch.from_numpy(features.inputs[name]).bfloat16().view(torch.uint16).numpy() for name in names}
    return replace(features, inputs={**features.inputs, **inputs}, half=names)


def joined(features: Sequence[ImageFeatures], name: str, axis: int = 0) -> "Tensor":
    """Return an input of several prompts as one tensor; float32 if only some are bfloat16."""
    import torch

    if len({name in one.half for one in features}) == 1:
        tensor = torch.from_numpy(np.concatenate([one.inputs[name] for one in features], axis))
        return tensor.view(torch.bfloat16) if name in features[0].half else tensor
    return torch.cat([joined([one], name).float() for one in features], axis)


def size(features: ImageFeatures) -> int:
    """Return the bytes of the features."""
    return sum(array.nbytes for array in features.inputs.values())
