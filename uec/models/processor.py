"""A vision-language model's processor: how many tokens a picture takes, and what the model reads of it."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from uec.config.schema import ImageConfig, ModelConfig
from uec.errors import BadInput, RunFailed
from uec.models.source import is_vision_language, load_config, locate_model
from uec.types import ImageFeatures, Prompt, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

FILES = ("processor_config.json", "preprocessor_config.json")
OF_THE_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")

VISION_NAME = re.compile(r"(image|img|video|vision|audio).*token_(ids?|index)$|row_col_ids$")
VISION_TOKEN = re.compile(r"image|img|video|vision|audio|row_\d+_col_\d+", re.IGNORECASE)
AROUND = (("vision_start_token_id", "vision_end_token_id"), ("image_start_token_id", "image_end_token_id"))

PROBE = (64, 64)
"""(height, width) of the blank picture that a processor is tried with."""


def load_processor(model: ModelConfig, image: ImageConfig, tokenizer: "PreTrainedTokenizerBase") -> "Processor | None":
    """The model's processor around the `tokenizer` of `load_tokenizer`, with the limits of `data.image`; None for a text model.

    Raises BadInput for a vision-language model that has no processor, or none that can be used, and for limits that it cannot keep.
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
    except Exception as error:  # code of the family, tried for the first time
        raise BadInput(f"model.path: the {type(processor).__name__} of {model.path} fails on a blank picture: {error}") from error
    special = set(tokenizer.added_tokens_decoder)
    if ids[0] not in special or ids[-1] not in special or loaded.feature_id not in ids:
        raise BadInput(
            f"model.path: the {type(processor).__name__} of {model.path} has no tokens of their own for a picture's begin, end and "
            "features; this family is not supported"
        )
    return loaded


class Processor:
    """What data, engine and learner ask of the processor; one thread at a time."""

    def __init__(self, processor: Any, tokenizer: "PreTrainedTokenizerBase", config: "PreTrainedConfig") -> None:
        self.processor = processor
        self.tokenizer = tokenizer
        self.config = config
        self.image_token: str = processor.image_token
        """Stands for one picture in a templated text."""
        self.image_token_id: int = tokenizer.get_vocab()[self.image_token]
        self.feature_id = int(getattr(config, "image_token_id", None) or self.image_token_id)
        """The token that a feature takes the place of."""
        self._settings = json.dumps([type(processor).__name__, processor.image_processor.to_dict()], sort_keys=True, default=str).encode()
        self._replacements: dict[tuple[int, int], list[int]] = {}

    @property
    def chat_template(self) -> str | None:
        """The processor's own, where it has one: beside a tokenizer's it is the one that knows pictures."""
        template = self.processor.chat_template or self.tokenizer.chat_template
        return template.get("default") if isinstance(template, dict) else template

    @property
    def placeholder(self) -> str:
        """`image_token` with the marks that a chat template puts around it, for text without one."""
        for names in AROUND:
            start, end = (getattr(self.config, name, None) for name in names)
            if start is not None and end is not None and start not in self.replacement(PROBE):
                return f"{self.tokenizer.convert_ids_to_tokens(start)}{self.image_token}{self.tokenizer.convert_ids_to_tokens(end)}"
        return self.image_token

    def expand(self, ids: list[int], sizes: list[tuple[int, int]]) -> tuple[list[int], tuple[tuple[int, int], ...]]:
        """Token ids with one image token a picture -> with as many as the processor makes of it, and `Prompt.spans`.

        `sizes` holds each picture's (height, width) in pixels. Raises ValueError for a picture that the processor refuses, as for its
        shape, and where there are more or fewer image tokens than pictures.
        """
        if ids.count(self.image_token_id) != len(sizes):
            raise ValueError(f"{ids.count(self.image_token_id)} image tokens for {len(sizes)} pictures")
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
        """The tokens that the processor puts in place of a picture of (height, width) pixels: asked once a size, of a blank one."""
        if size not in self._replacements:
            from PIL import Image

            blank = Image.new("RGB", (size[1], size[0]))
            try:
                ids = self.processor(images=[blank], text=[self.image_token], add_special_tokens=False)["input_ids"][0]
            except ValueError as error:
                raise ValueError(f"the model's processor refuses a picture of {size[1]} x {size[0]} pixels: {error}") from error
            self._replacements[size] = [int(token) for token in ids]
        return self._replacements[size]

    def features(self, prompt: Prompt, images: "list[Image]") -> ImageFeatures:
        """What the model reads of a prompt's opened `images`. Raises RunFailed, with its index, if the tokens are not the prompt's."""
        made = self.processor(images=images, text=[prompt.text], add_special_tokens=False, return_tensors="pt")
        self._check_tokens(prompt, made["input_ids"][0].numpy())
        inputs = {name: np.ascontiguousarray(value.numpy()) for name, value in made.items() if name not in OF_THE_TEXT}
        count = int((made["input_ids"][0] == self.feature_id).sum())
        return ImageFeatures(prompt.index, inputs, tuple(map(self._digest, images)), count)

    def blank(self) -> tuple[Tokens, ImageFeatures]:
        """A prompt of nothing but a small blank picture, and its features."""
        from PIL import Image

        tokens = np.array(self.replacement(PROBE), np.int32)
        prompt = Prompt(-1, self.image_token, tokens, "", {})
        return tokens, self.features(prompt, [Image.new("RGB", (PROBE[1], PROBE[0]))])

    def vision_tokens(self) -> list[int]:
        """Ids that stand for pictures, video or sound, or mark them: no policy may sample them. Sorted; without end of text and padding."""
        named = {**self.config.to_dict(), **vars(self.processor)}
        found: set[Any] = {self.image_token_id, self.feature_id}
        for name, value in named.items():
            if VISION_NAME.search(name):
                found.update(value if isinstance(value, list) else [value])
        found.update(i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special and VISION_TOKEN.search(token.content))
        kept = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id, self.tokenizer.unk_token_id}
        return sorted(token for token in found if isinstance(token, int) and token >= 0 and token not in kept)

    def _check_tokens(self, prompt: Prompt, ids: Tokens) -> None:
        added = len(prompt.tokens) - len(ids)  # plain text: what the tokenizer puts before it
        if added < 0 or added > 1 or not np.array_equal(prompt.tokens[added:], ids):
            raise RunFailed(
                f"prompt {prompt.index}: the model's processor makes other tokens of it, {len(ids)} of them, than the {len(prompt.tokens)} "
                f"it was loaded with; was a picture changed since? ({', '.join(prompt.images)})"
            )

    def _digest(self, image: "Image") -> str:
        digest = xxhash.xxh3_128(self._settings)
        digest.update(f"{image.width}x{image.height}".encode())
        digest.update(image.tobytes())
        return digest.hexdigest()


def _load(model: ModelConfig, tokenizer: "PreTrainedTokenizerBase") -> Any:
    """The family's processor with its own tokenizer replaced, which AutoProcessor may have built by other rules than ours."""
    from transformers import AutoProcessor, ProcessorMixin

    path = locate_model(model)
    advice = "save the model's AutoProcessor into the folder"
    if Path(path).is_dir() and not any((Path(path) / name).is_file() for name in FILES):
        raise BadInput(f"model.path: {path} is a vision-language model without {FILES[0]} (or, of older ones, {FILES[1]}); {advice}")
    try:
        found = AutoProcessor.from_pretrained(path, trust_remote_code=model.trust_remote_code)
        if not isinstance(found, ProcessorMixin) or not hasattr(found, "image_processor"):
            raise BadInput(f"model.path: {model.path} is a vision-language model, and its files give no processor of pictures; {advice}")
        settings, _ = type(found).get_processor_dict(path)
        parts = [tokenizer if name == "tokenizer" else getattr(found, name) for name in found.get_attributes()]
        return type(found).from_args_and_dict(parts, settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise BadInput(f"model.path: the processor of {model.path} cannot be loaded: {error}") from error


def _set_limits(processor: Any, image: ImageConfig, model: ModelConfig) -> None:
    """data.image.min_pixels and max_pixels, in the families that know an area: there `size` holds areas, elsewhere lengths."""
    if image.min_pixels is None and image.max_pixels is None:
        return
    images = processor.image_processor
    size = dict(images.size)
    knows_areas = {"min_pixels", "max_pixels"} <= images.valid_kwargs.__annotations__.keys()
    if not knows_areas or not {"shortest_edge", "longest_edge"} <= size.keys():
        given = [f"data.image.{name}={value}" for name, value in vars(image).items() if name in ("min_pixels", "max_pixels") and value]
        raise BadInput(f"{', '.join(given)}: the {type(images).__name__} of {model.path} has no such setting; leave it unset")
    least = size["shortest_edge"] if image.min_pixels is None else image.min_pixels
    most = size["longest_edge"] if image.max_pixels is None else image.max_pixels
    if least > most:
        raise BadInput(
            f"data.image.min_pixels={least} is more than data.image.max_pixels={most} (one that is not set is the model's); "
            "set both, the first not above the second"
        )
    images.size = type(images.size)(**{**size, "shortest_edge": least, "longest_edge": most})
