"""The training of the initial model of the geometry task: schedule, batches and loss."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from transformers import BatchFeature, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from uec.tasks.geometry.data import Problem
from uec.tasks.geometry.model import END, new_model
from uec.tasks.loop import OnStep, fit


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters. The length is in steps, not seconds, so that the same command makes the same model on a busy machine."""

    steps: int = 450
    batch: int = 64
    lr: float = 2e-3
    warmup_steps: int = 30
    lowest_lr: float = 0.05  # at the end of the cosine, as a share of `lr`
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    share_of_slips: float = 0.2  # of demonstrations that misread a side
    seed: int = 0

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step (from 0): a linear warm-up times half a cosine."""
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.lr * min(1.0, (step + 1) / self.warmup_steps) * (self.lowest_lr + (1 - self.lowest_lr) * cosine)


def prompt_text(processor: Qwen2_5_VLProcessor, question: str) -> str:
    """Return the chat of one image and one question, up to the start of the response."""
    chat: Any = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    return str(processor.apply_chat_template(chat, add_generation_prompt=True))


def collate(processor: Qwen2_5_VLProcessor, problems: list[Problem]) -> tuple[BatchFeature, torch.Tensor]:
    """Return the inputs of the model, padded on the left, and whether a token belongs to a solution or is its end token, [B, T]."""
    texts = [f"{prompt_text(processor, problem.question)}{problem.solution}{END}" for problem in problems]
    batch = processor(text=texts, images=[problem.image for problem in problems], padding=True, return_tensors="pt")
    lengths_B = torch.tensor([len(ids) + 1 for ids in processor.tokenizer([problem.solution for problem in problems]).input_ids])
    width = batch["input_ids"].shape[1]
    return batch, torch.arange(width) >= width - lengths_B[:, None]


def solution_loss(model: Qwen2_5_VLForConditionalGeneration, batch: BatchFeature, is_solution_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean negative log-likelihood of the solutions' tokens."""
    logits_BTV = model(**batch, use_cache=False).logits[:, :-1]
    mask_BT = is_solution_BT[:, 1:]
    return F.cross_entropy(logits_BTV[mask_BT], batch["input_ids"][:, 1:][mask_BT])


def train(
    recipe: Recipe, demonstrations: Iterator[Problem], processor: Qwen2_5_VLProcessor, on_step: OnStep
) -> Qwen2_5_VLForConditionalGeneration:
    """Return a new model, trained on the demonstrations' solutions."""
    torch.manual_seed(recipe.seed)
    model = new_model().train()

    def next_loss() -> torch.Tensor:
        return solution_loss(model, *collate(processor, list(islice(demonstrations, recipe.batch))))

    fit(model, recipe, next_loss, on_step)
    return model.eval()
