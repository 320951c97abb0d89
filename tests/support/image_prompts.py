"""Prompts with images and responses to them for a tiny vision-language model, and their log-probabilities by plain transformers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.support import tiny_vlm
from uec.config.schema import ImageConfig, ModelConfig
from uec.models.policy import Policy, load_model
from uec.models.pretrained import load_tokenizer
from uec.models.processor import Processor, load_processor
from uec.models.rows import Layout
from uec.models.vision import Vision, vision_tower
from uec.models.vocabulary import vocabulary_size
from uec.types import Continuation, ImageFeatures, Prompt

CPU = torch.device("cpu")
TEXT = "Find the measure of angle {}. \\boxed{{}}"
SIZES = [[(60, 80)], [(140, 56), (57, 90)], [], [(30, 30)]]
"""Width and height of each prompt's images: one; two of different sizes; none; one."""


@dataclass(frozen=True)
class ImagePrompt:
    """A prompt with images, and the inputs that the project and plain transformers make from it."""

    prompt: Prompt
    features: ImageFeatures | None
    plain: dict[str, Tensor]  # from AutoProcessor: input_ids [1, P], pixel_values, ...


def model_processor(folder: Path) -> Processor:
    model = ModelConfig(path=str(folder))
    processor = load_processor(model, ImageConfig(), load_tokenizer(model))
    assert processor is not None
    return processor


def noise(sizes: list[tuple[int, int]], seed: int) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes]


def make_image_prompts(folder: Path, sizes: list[list[tuple[int, int]]] = SIZES, files: Path = Path()) -> list[ImagePrompt]:
    """Return a prompt with noise images for each entry of `sizes`. The images are written to `files` if it is an absolute path."""
    processor, plain = model_processor(folder), AutoProcessor.from_pretrained(folder)
    made = []
    for index, wanted in enumerate(sizes):
        images = noise(wanted, seed=index)
        paths = [files / f"{index}-{number}.png" for number in range(len(images))]
        if files.is_absolute():
            for image, path in zip(images, paths, strict=True):
                image.save(path)
        text = processor.placeholder * len(images) + TEXT.format(index)
        places = [(image.height, image.width) for image in images]
        tokens, spans = processor.expand(processor.tokenizer(text, add_special_tokens=False)["input_ids"], places)
        prompt = Prompt(index, text, np.array(tokens, np.int32), "", {}, tuple(map(str, paths)), spans)
        features = processor.features(prompt, images) if images else None
        made.append(ImagePrompt(prompt, features, dict(plain(text=[text], images=images or None, return_tensors="pt"))))
    return made


def responses(prompts: list[ImagePrompt], banned: list[int], vocabulary: int, n: int = 3, seed: int = 0) -> list[list[Continuation]]:
    """Return a row of n random responses to each prompt."""
    rng = np.random.default_rng(seed)
    allowed = np.setdiff1d(np.arange(vocabulary, dtype=np.int32), banned)
    return [
        [Continuation(one.prompt.index, one.prompt.tokens, rng.choice(allowed, rng.integers(1, 9))) for _ in range(n)] for one in prompts
    ]


def plain_logprobs(hf: Any, one: ImagePrompt, tokens: np.ndarray, banned: list[int], vocabulary: int, temperature: float = 1.0) -> Tensor:
    """Return a response's log-probabilities [T] by transformers alone: its processor and forward pass, one sequence, no padding."""
    [prompt] = one.plain["input_ids"]
    inputs = {name: value for name, value in one.plain.items() if name not in ("attention_mask", "input_ids")}
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(tokens)))
    tokens_T = torch.tensor(tokens, dtype=torch.int64)
    ids_1L = torch.cat([prompt, tokens_T])[None]
    logits_TV = hf(input_ids=ids_1L, **inputs).logits[0, len(prompt) - 1 : -1] / temperature
    exists_V = torch.zeros(logits_TV.shape[1], dtype=torch.bool)
    exists_V[:vocabulary] = True
    exists_V[banned] = False
    return logits_TV.masked_fill(~exists_V, -torch.inf).log_softmax(-1).gather(1, tokens_T[:, None])[:, 0]


class Family:
    """A tiny model of a family, with prompts and responses."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = tiny_vlm.build(name, folder)
        self.processor = model_processor(self.folder)
        self.banned = self.processor.vision_tokens()
        self.vocabulary = vocabulary_size(self.processor.tokenizer)
        self.prompts = make_image_prompts(self.folder)
        self.images = {one.prompt.index: one.features for one in self.prompts if one.features is not None}
        self.rows = responses(self.prompts, self.banned, self.vocabulary)

    def policy(self, packed: bool = True) -> tuple[Policy, Layout]:
        hf = load_model(ModelConfig(path=str(self.folder)), str(self.folder), "float32")
        vision = Vision(hf, self.processor.feature_id, *self.processor.blank())
        return Policy(hf, 256, self.vocabulary, banned=self.banned), Layout(CPU, packed, vision)

    def plain(self, hf: Any) -> list[Tensor]:
        """Return the log-probabilities of every response, by transformers' forward pass."""
        return [
            plain_logprobs(hf, one, response.tokens, self.banned, self.vocabulary)
            for one, row in zip(self.prompts, self.rows, strict=True)
            for response in row
        ]

    def plain_model(self) -> Any:
        return AutoModelForImageTextToText.from_pretrained(self.folder, dtype=torch.float32).eval()


def tower_names(hf: Any) -> set[str]:
    tower = {id(parameter) for parameter in vision_tower(hf).parameters()}
    return {name for name, parameter in hf.named_parameters() if id(parameter) in tower}
