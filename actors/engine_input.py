"""A job as vLLM's engines take it: token ids as they are, and features of images as the model's processor made them.

vLLM would otherwise tokenise and preprocess by itself, a second time, and perhaps not alike.
"""

from typing import Any

import numpy as np

from actors.engine import Job


def engine_input(renderer: Any, job: Job) -> dict[str, Any]:
    """vLLM's `EngineInput`. `renderer`: the engine's, whose processor knows which features belong to which image."""
    if job.images is None:
        return {"type": "token", "prompt_token_ids": job.prompt}
    import torch
    from transformers import BatchFeature
    from vllm.inputs.engine import mm_input
    from vllm.multimodal.inputs import MultiModalKwargsItems

    features = BatchFeature({name: torch.from_numpy(np.array(array)) for name, array in job.images.features.inputs.items()})
    fields = renderer.get_mm_processor()._get_mm_fields_config(features, {})
    return dict(
        mm_input(
            job.prompt,
            MultiModalKwargsItems.from_hf_inputs(features, fields),
            {"image": list(job.images.features.digests)},
            {"image": [_place(job, begin, end) for begin, end in job.images.spans]},
        )
    )


def _place(job: Job, begin: int, end: int) -> Any:
    """Where an image's features go; a family may write other tokens between its image tokens."""
    import torch
    from vllm.multimodal.inputs import PlaceholderRange

    is_image = torch.tensor(job.prompt[begin:end]) == job.prompt[begin]
    return PlaceholderRange(offset=begin, length=end - begin, is_embed=None if bool(is_image.all()) else is_image)
