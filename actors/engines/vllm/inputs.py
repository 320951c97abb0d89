"""Convert the project's requests to vLLM's: token ids and image features stay unchanged, sampling parameters get vLLM's names.

Given texts and images, vLLM would tokenise and preprocess a second time, perhaps with another result.
"""

from typing import Any

from actors.engines.vllm.job import Job
from uec.models.image_features import joined
from uec.types import Sampling

WHOLE = 1 << 30  # tokens between two outputs of a response: vLLM sends the first token, and all others at the end


def sampling_params(sampling: Sampling, n: int, temperature: float) -> Any:
    """Return `vllm.SamplingParams` for n responses, with the log-probability of each sampled token."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        n=n,
        temperature=temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_tokens),
        detokenize=bool(sampling.stop),
        skip_special_tokens=False,  # a stop text may be one
        logprobs=0,  # of the sampled token alone
        flat_logprobs=True,
        output_kind=RequestOutputKind.DELTA,
        stream_interval=WHOLE,
        skip_clone=True,
    )


def logprobs_params() -> Any:
    """Return `vllm.SamplingParams` for a prompt's log-probabilities at T = 1. With them, vLLM does not use its prefix cache.

    They do not depend on the temperature. The token that vLLM must sample is greedy, because a random one would move the random state,
    and a resumed run, which probes its first weights again, would sample other responses than the run that was never interrupted.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        prompt_logprobs=0,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def engine_input(renderer: Any, job: Job) -> dict[str, Any]:
    """Return vLLM's `EngineInput`. `renderer`: the engine's, whose processor knows which features belong to which image.

    Raises ValueError, as vLLM does when it refuses a request, if that processor expects other features than transformers makes.
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
            {"image": [_placeholder(job, begin, end) for begin, end in job.images.spans]},
        )
    )


def _features(job: Job) -> dict[str, Any]:
    """Return features by the names of vLLM's processors: transformers' features, and each image's number of tiles, which they lack."""
    import torch

    arrays = {name: joined([job.images.features], name) for name in job.images.features.inputs}
    if "pixel_attention_mask" in arrays:  # Idefics3 and SmolVLM: [1, tiles, ...]
        arrays = {name: array[0] for name, array in arrays.items()}
    image_token = job.prompt[job.images.spans[0][0]]
    tokens = torch.tensor([job.prompt[begin:end].count(image_token) for begin, end in job.images.spans])
    tiles = tokens * len(arrays["pixel_values"]) // job.images.features.tokens
    return {**arrays, "num_patches": tiles, "image_num_patches": tiles, "image_token_id": torch.tensor(image_token)}


def _placeholder(job: Job, begin: int, end: int) -> Any:
    """Return where an image's features go; some families write other tokens between the image tokens."""
    import torch
    from vllm.multimodal.inputs import PlaceholderRange

    is_image = torch.tensor(job.prompt[begin:end]) == job.prompt[begin]
    return PlaceholderRange(offset=begin, length=end - begin, is_embed=None if bool(is_image.all()) else is_image)
