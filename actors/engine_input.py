"""A job as vLLM's engines take it: token ids as they are, and features of images as the model's processor made them.

vLLM would otherwise tokenise and preprocess by itself, a second time, and perhaps not alike.
"""

from typing import Any

import numpy as np

from actors.engine import Job, Pictures

KNOWN = "the features of Qwen2-VL, Qwen2.5-VL, Qwen3-VL, InternVL, Idefics3 and SmolVLM"


def engine_input(renderer: Any, job: Job) -> dict[str, Any]:
    """vLLM's `EngineInput`. `renderer`: the engine's, whose processor knows which features belong to which image."""
    if job.images is None:
        return {"type": "token", "prompt_token_ids": job.prompt}
    from transformers import BatchFeature
    from vllm.inputs.engine import mm_input
    from vllm.multimodal.inputs import MultiModalKwargsItems

    features = BatchFeature({**_as_tensors(job.images), **_tiles(job)})
    fields = renderer.get_mm_processor()._get_mm_fields_config(features, {})
    items = MultiModalKwargsItems.from_hf_inputs(features, fields)
    if len(items.get("image", [])) != len(job.images.spans):
        names = ", ".join(job.images.features.inputs)
        raise ValueError(
            f"its {type(renderer.get_mm_processor()).__name__} reads other features than transformers makes ({names}), and how to turn "
            f"these into those is not known here; known are {KNOWN}"
        )
    return dict(
        mm_input(
            job.prompt,
            items,
            {"image": list(job.images.features.digests)},
            {"image": [_place(job, begin, end) for begin, end in job.images.spans]},
        )
    )


def _as_tensors(images: Pictures) -> dict[str, Any]:
    import torch

    arrays = images.features.inputs
    if "pixel_attention_mask" in arrays:  # Idefics3 and SmolVLM: [1, tiles, ...]
        arrays = {name: array[0] for name, array in arrays.items()}
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _tiles(job: Job) -> dict[str, Any]:
    """How many tiles are of which image, by the names that vLLM's processors give this in place of transformers', who leave it out."""
    import torch

    images, image_token = job.images, job.prompt[job.images.spans[0][0]]
    tokens = torch.tensor([job.prompt[begin:end].count(image_token) for begin, end in images.spans])
    counts = tokens * len(_as_tensors(images)["pixel_values"]) // images.features.tokens
    return {"num_patches": counts, "image_num_patches": counts, "image_token_id": torch.tensor(image_token)}


def _place(job: Job, begin: int, end: int) -> Any:
    """Where an image's features go; a family may write other tokens between its image tokens."""
    import torch
    from vllm.multimodal.inputs import PlaceholderRange

    is_image = torch.tensor(job.prompt[begin:end]) == job.prompt[begin]
    return PlaceholderRange(offset=begin, length=end - begin, is_embed=None if bool(is_image.all()) else is_image)
