"""Image features in bfloat16."""

import numpy as np
import pytest
import torch

from uec.models.image_features import halved, joined, size
from uec.types import ImageFeatures

PIXELS = np.linspace(-2, 2, 24, dtype=np.float32).reshape(4, 6)
GRID = np.array([[1, 2, 2]], np.int64)


@pytest.fixture
def features() -> ImageFeatures:
    return ImageFeatures(0, {"pixel_values": PIXELS, "image_grid_thw": GRID}, ("digest",), 1)


def test_bfloat16_features_have_half_the_bytes_and_torchs_rounding(features: ImageFeatures) -> None:
    half = halved(features)
    assert (size(features), size(half)) == (4 * 24 + 24, 2 * 24 + 24)
    found = joined([half, half], "pixel_values")
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, torch.from_numpy(np.concatenate([PIXELS, PIXELS])).bfloat16())
    assert torch.equal(joined([half], "image_grid_thw"), torch.from_numpy(GRID))


def test_float32_features_stay_as_they_are_and_a_mixture_is_float32(features: ImageFeatures) -> None:
    assert torch.equal(joined([features], "pixel_values"), torch.from_numpy(PIXELS))
    mixed = joined([features, halved(features)], "pixel_values")
    assert mixed.dtype == torch.float32 and torch.equal(mixed[:4], torch.from_numpy(PIXELS))
