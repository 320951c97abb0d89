"""The training of the initial model of Countdown: model size, schedule, batches and loss."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from uec.tasks.countdown.tokenizer import BOS, EOS, PAD, WORDS
from uec.tasks.loop import OnStep, fit


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the training. `?` is taught late and briefly, so that it stays rare."""

    share: float  # of all steps
    lr: float  # peak, as a share of `Recipe.lr`
    rare_share: float  # demonstrations that begin with `?`, among those without a hint


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters. The length is in steps, not seconds, so that the same command makes the same model on a busy machine."""

    steps: int = 1450
    batch: int = 64
    lr: float = 2e-3
    warmup_steps: int = 50
    lowest_lr: float = 0.02  # at the end of the linear decay, as a share of the peak
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    phases: tuple[Phase, ...] = (Phase(0.78, 1.0, 0.007), Phase(0.14, 0.25, 0.03), Phase(0.08, 0.25, 0.1))
    seed: int = 0

    def phase_at(self, step: int) -> tuple[Phase, int, int]:
        """Return the phase of a step (from 0), the first step of the phase, and the first step behind it."""
        ends = [round(self.steps * sum(phase.share for phase in self.phases[: k + 1])) for k in range(len(self.phases))]
        k = next((k for k, end in enumerate(ends) if step < end), len(ends) - 1)
        return self.phases[k], ends[k - 1] if k else 0, ends[k]

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step (from 0): in each phase a linear warm-up times a linear decay."""
        phase, begin, end = self.phase_at(step)
        done = step - begin
        return self.lr * phase.lr * min(1.0, (done + 1) / self.warmup_steps) * max(self.lowest_lr, 1 - done / (end - begin))

    def rare_share_at(self, step: int) -> float:
        """Return the share of a step's demonstrations without a hint that begin with `?`."""
        return self.phase_at(step)[0].rare_share


def new_model() -> Qwen2ForCausalLM:
    """Return a random model of 0.80 M parameters. It draws from torch's global generator, so seed that first.

    Projections have a standard deviation of 1/sqrt(inputs), those that write into the residual stream 0.3 times that: the
    customary 0.02 is too small for a model of this width.
    """
    config = Qwen2Config(
        vocab_size=len(WORDS),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=WORDS.index(PAD),
        bos_token_id=WORDS.index(BOS),
        eos_token_id=WORDS.index(EOS),
        dtype="float32",
    )
    model = Qwen2ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and "embed" not in name:
            into_residual = "o_proj" in name or "down_proj" in name
            torch.nn.init.normal_(parameter, std=(0.3 if into_residual else 1.0) / math.sqrt(parameter.shape[1]))
    return model


def train(
    recipe: Recipe, demonstrations: Iterator[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, on_step: OnStep
) -> Qwen2ForCausalLM:
    """Return a new model, trained with the next-token loss on the responses."""
    torch.manual_seed(recipe.seed)
    model = new_model().train()

    def next_loss() -> torch.Tensor:
        ids_BT, is_response_BT = collate(list(islice(demonstrations, recipe.batch)), tokenizer)
        # Padding is on the right, so a causal model needs no mask.
        logits_BTV = model(input_ids=ids_BT[:, :-1], use_cache=False).logits
        mask_BT = is_response_BT[:, 1:]
        return F.cross_entropy(logits_BTV[mask_BT], ids_BT[:, 1:][mask_BT])

    fit(model, recipe, next_loss, on_step)
    return model.eval()


def collate(batch: list[tuple[str, str]], tokenizer: PreTrainedTokenizerBase) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids, padded on the right, and whether a token belongs to a response or is its end-of-text token; both [B, T]."""
    prompts = tokenizer([prompt for prompt, _ in batch]).input_ids
    responses = tokenizer([response for _, response in batch], add_special_tokens=False).input_ids
    width = max(len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)) + 1
    ids_BT = torch.full((len(batch), width), tokenizer.pad_token_id)
    is_response_BT = torch.zeros(len(batch), width, dtype=torch.bool)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        sequence = [*prompt, *response, tokenizer.eos_token_id]
        ids_BT[row, : len(sequence)] = torch.tensor(sequence)
        is_response_BT[row, len(prompt) : len(sequence)] = True
    return ids_BT, is_response_BT
