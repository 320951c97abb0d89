"""A job as vLLM's engines take it: token ids as they are, and features of images as the model's processor made them.

vLLM would otherwise tokenise and preprocess by itself, a second time, and perhaps not alike.
"""

from typing import Any

import numpy as np

from actors.engines.vllm.job import Job


def engine_input(renderer: Any, job: Job) -> dict[str, Any]:
    """vLLM's `EngineInput`. `renderer`: the engine's, whose processor knows which features belong to which image.

    Raises ValueError, as vLLM does for what it refuses, where that processor asks for other features than transformers makes.
    """
    if job.images is None:
        return {"type": "token", "prompt_token_ids": job.prompt}
    from transformers import BatchFeature
    from vllm.inputs.engine import mm_input
    from vllm.multimodal.inputs import MultiModalKwargsItems

    features = BatchFeature(_features(job))
    processor = renderer.get_mm_processor()
    items = MultiModalKwargsItems.from_hf_inputs(features, processor._get_mm_fields_config(features, {}))
    if len(items.get("image", [])) != len(job.images.spans):
        raise ValueError(
            f"its {type(processor).__name__} does not read what transformers makes of images ({', '.join(job.images.features.inputs)}); "
            "the families Qwen2-VL, Qwen2.5-VL, Qwen3-VL, InternVL and Idefics3 are known to work"
        )
    return dict(
        mm_input(
            job.prompt,
            items,
            {"image": list(job.images.features.digests)},
            {"image": [_place(job, begin, end) for begin, end in job.images.spans]},
        )
    )


def _features(job: Job) -> dict[str, Any]:
    """Features by the names of vLLM's processors: transformers' own, and how many tiles each image has, which transformers leaves out."""
    import torch

    arrays = {name: torch.from_numpy(np.array(array)) for name, array in job.images.features.inputs.items()}
    if "pixel_attention_mask" in arrays:  # Idefics3 and SmolVLM: [1, tiles, ...]
        arrays = {name: array[0] for name, array in arrays.items()}
    image_token = job.prompt[job.images.spans[0][0]]
    tokens = torch.tensor([job.prompt[begin:end].count(image_token) for begin, end in job.images.spans])
    tiles = tokens * len(arrays["pixel_values"]) // job.images.features.tokens
    return {**arrays, "num_patches": tiles, "image_num_patches": tiles, "image_token_id": torch.tensor(image_token)}


def _place(job: Job, begin: int, end: int) -> Any:
    """Where an image's features go; a family may write other tokens between its image tokens."""
    import torch
    from vllm.multimodal.inputs import PlaceholderRange

    is_image = torch.tensor(job.prompt[begin:end]) == job.prompt[begin]
    return PlaceholderRange(offset=begin, length=end - begin, is_embed=None if bool(is_image.all()) else is_image)
