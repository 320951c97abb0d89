"""The processor of a vision-language model: the tokens of an image, and the tensors that the vision tower reads."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from uec.config.schema import ImageConfig, ModelConfig
from uec.errors import BadInput, RunFailed
from uec.models.model_config import is_vision_language
from uec.models.pretrained import load_config, locate_model
from uec.types import ImageFeatures, Prompt, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

FILES = ("processor_config.json", "preprocessor_config.json")
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")

VISION_NAME = re.compile(r"(image|img|video|vision|audio).*token_(ids?|index)$|row_col_ids$")
VISION_TOKEN = re.compile(r"image|img|video|vision|audio|row_\d+_col_\d+", re.IGNORECASE)
MARKS = (("vision_start_token_id", "vision_end_token_id"), ("image_start_token_id", "image_end_token_id"))

PROBE = (64, 64)
"""(height, width) of the blank image with which a processor is tested."""


def load_processor(model: ModelConfig, image: ImageConfig, tokenizer: "PreTrainedTokenizerBase") -> "Processor | None":
    """Return the model's processor with the `tokenizer` of `load_tokenizer` and the limits of `data.image`; None for a text model.

    Raises BadInput for a vision-language model without a usable processor, and for limits that the processor does not support.
    """
    config = load_config(model)
    if not is_vision_language(config):
        return None
    processor = _load(model, tokenizer)
    _set_limits(processor, image, model)
    if getattr(processor, "image_token", None) not in tokenizer.get_vocab():
        raise BadInput(f"model.path: the {type(processor).__name__} of {model.path} has no image token; this family is not supported")
    loaded = Processor(processor, tokenizer, config)
    try:
        ids = loaded.replacement(PROBE)
    except Exception as error:  # the first call of the model family's code
        raise BadInput(f"model.path: the {type(processor).__name__} of {model.path} fails on a blank image: {error}") from error
    special = set(tokenizer.added_tokens_decoder)
    if ids[0] not in special or ids[-1] not in special or loaded.feature_id not in ids:
        raise BadInput(
            f"model.path: the {type(processor).__name__} of {model.path} has no separate tokens for an image's begin, end and "
            "features; this family is not supported"
        )
    return loaded


class Processor:
    """A processor as data loading, engine and learner use it. Not thread-safe."""

    def __init__(self, processor: Any, tokenizer: "PreTrainedTokenizerBase", config: "PreTrainedConfig") -> None:
        self.processor = processor
        self.tokenizer = tokenizer
        self.config = config
        self.image_token: str = processor.image_token
        """Stands for one image in a templated text."""
        self.image_token_id: int = tokenizer.get_vocab()[self.image_token]
        self.feature_id = int(getattr(config, "image_token_id", None) or self.image_token_id)
        """The token whose embedding is replaced by an image feature."""
        self._settings = json.dumps([type(processor).__name__, processor.image_processor.to_dict()], sort_keys=True, default=str).encode()
        self._replacements: dict[tuple[int, int], list[int]] = {}

    @property
    def chat_template(self) -> str | None:
        """Return the processor's chat template, which supports images, or else the tokenizer's."""
        template = self.processor.chat_template or self.tokenizer.chat_template
        return template.get("default") if isinstance(template, dict) else template

    @property
    def placeholder(self) -> str:
        """Return `image_token` with the begin and end marks that a chat template writes, for text without a chat template."""
        for names in MARKS:
            start, end = (getattr(self.config, name, None) for name in names)
            if start is not None and end is not None and start not in self.replacement(PROBE):
                return f"{self.tokenizer.convert_ids_to_tokens(start)}{self.image_token}{self.tokenizer.convert_ids_to_tokens(end)}"
        return self.image_token

    def expand(self, ids: list[int], sizes: list[tuple[int, int]]) -> tuple[list[int], tuple[tuple[int, int], ...]]:
        """Replace each image token by the tokens of its image. Return the token ids and `Prompt.spans`.

        `sizes`: each image's (height, width) in pixels. Raises ValueError for an image that the processor rejects, for example for its
        shape, and if the numbers of image tokens and images differ.
        """
        if ids.count(self.image_token_id) != len(sizes):
            raise ValueError(f"{ids.count(self.image_token_id)} image tokens for {len(sizes)} images")
        expanded: list[int] = []
        spans = []
        remaining = iter(sizes)
        for token in ids:
            if token != self.image_token_id:
                expanded.append(token)
                continue
            replacement = self.replacement(next(remaining))
            features = [i for i, replaced in enumerate(replacement) if replaced == self.feature_id]
            spans.append((len(expanded) + features[0], len(expanded) + features[-1] + 1))
            expanded += replacement
        return expanded, tuple(spans)

    def replacement(self, size: tuple[int, int]) -> list[int]:
        """Return the tokens of an image of (height, width) pixels. The processor makes them once per size, from a blank image."""
        if size not in self._replacements:
            from PIL import Image

            blank = Image.new("RGB", (size[1], size[0]))
            try:
                ids = self.processor(images=[blank], text=[self.image_token], add_special_tokens=False)["input_ids"][0]
            except ValueError as error:
                raise ValueError(f"the model's processor rejects an image of {size[1]} x {size[0]} pixels: {error}") from error
            self._replacements[size] = [int(token) for token in ids]
        return self._replacements[size]

    def features(self, prompt: Prompt, images: "list[Image]") -> ImageFeatures:
        """Return the vision tower's inputs for a prompt's opened `images`. Raises RunFailed if the prompt's tokens have changed."""
        made = self.processor(images=images, text=[prompt.text], add_special_tokens=False, return_tensors="pt")
        self._check_tokens(prompt, made["input_ids"][0].numpy())
        inputs = {name: np.ascontiguousarray(value.numpy()) for name, value in made.items() if name not in TEXT_INPUTS}
        count = int((made["input_ids"][0] == self.feature_id).sum())
        return ImageFeatures(prompt.index, inputs, tuple(map(self._digest, images)), count)

    def blank(self) -> tuple[Tokens, ImageFeatures]:
        """Return the tokens of a prompt that consists of a small blank image, and its features."""
        from PIL import Image

        tokens = np.array(self.replacement(PROBE), np.int32)
        prompt = Prompt(-1, self.image_token, tokens, "", {})
        return tokens, self.features(prompt, [Image.new("RGB", (PROBE[1], PROBE[0]))])

    def vision_tokens(self) -> list[int]:
        """Return the sorted ids of tokens for images, video or sound, which no policy may sample; end of text and padding excluded."""
        named = {**self.config.to_dict(), **vars(self.processor)}
        found: set[Any] = {self.image_token_id, self.feature_id}
        for name, value in named.items():
            if VISION_NAME.search(name):
                found.update(value if isinstance(value, list) else [value])
        found.update(i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special and VISION_TOKEN.search(token.content))
        kept = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id, self.tokenizer.unk_token_id}
        return sorted(token for token in found if isinstance(token, int) and token >= 0 and token not in kept)

    def _check_tokens(self, prompt: Prompt, ids: Tokens) -> None:
        added = len(prompt.tokens) - len(ids)  # plain text: tokens that the tokenizer prepends
        if added < 0 or added > 1 or not np.array_equal(prompt.tokens[added:], ids):
            raise RunFailed(
                f"prompt {prompt.index}: the model's processor now makes {len(ids)} tokens, which differ from the {len(prompt.tokens)} "
                f"tokens at the start; was an image changed since? ({', '.join(prompt.images)})"
            )

    def _digest(self, image: "Image") -> str:
        digest = xxhash.xxh3_128(self._settings)
        digest.update(f"{image.width}x{image.height}".encode())
        digest.update(image.tobytes())
        return digest.hexdigest()


def _load(model: ModelConfig, tokenizer: "PreTrainedTokenizerBase") -> Any:
    """Load the processor with our tokenizer, because AutoProcessor may build its tokenizer by different rules."""
    from transformers import AutoProcessor, ProcessorMixin

    path = locate_model(model)
    advice = "save the model's AutoProcessor into the folder"
    if Path(path).is_dir() and not any((Path(path) / name).is_file() for name in FILES):
        raise BadInput(f"model.path: {path} is a vision-language model without {FILES[0]} (or, of older ones, {FILES[1]}); {advice}")
    try:
        found = AutoProcessor.from_pretrained(path, trust_remote_code=model.trust_remote_code)
        if not isinstance(found, ProcessorMixin) or not hasattr(found, "image_processor"):
            raise BadInput(f"model.path: {model.path} is a vision-language model, and its files define no image processor; {advice}")
        settings, _ = type(found).get_processor_dict(path)
        parts = [tokenizer if name == "tokenizer" else getattr(found, name) for name in found.get_attributes()]
        return type(found).from_args_and_dict(parts, settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise BadInput(f"model.path: the processor of {model.path} cannot be loaded: {error}") from error


def _set_limits(processor: Any, image: ImageConfig, model: ModelConfig) -> None:
    """Set data.image.min_pixels and max_pixels, in model families whose `size` holds areas; elsewhere it holds lengths."""
    if image.min_pixels is None and image.max_pixels is None:
        return
    image_processor = processor.image_processor
    size = dict(image_processor.size)
    knows_areas = {"min_pixels", "max_pixels"} <= image_processor.valid_kwargs.__annotations__.keys()
    if not knows_areas or not {"shortest_edge", "longest_edge"} <= size.keys():
        given = [f"data.image.{name}={value}" for name, value in vars(image).items() if name in ("min_pixels", "max_pixels") and value]
        raise BadInput(f"{', '.join(given)}: the {type(image_processor).__name__} of {model.path} has no such setting; leave it unset")
    least = size["shortest_edge"] if image.min_pixels is None else image.min_pixels
    most = size["longest_edge"] if image.max_pixels is None else image.max_pixels
    if least > most:
        raise BadInput(
            f"data.image.min_pixels={least} is more than data.image.max_pixels={most} (an unset one has the model's value); "
            "set both, and the first not above the second"
        )
    image_processor.size = type(image_processor.size)(**{**size, "shortest_edge": least, "longest_edge": most})
