"""A tiny random Qwen2 with rollouts and plans, its training in plain torch, and the scenarios that learner ranks run in tests."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actors.workers.learner import LearnerActor
from tests.support.learner_ranks import weights
from uec.models.packing import Length, plan
from uec.types import Kind, Trajectory, UpdatePlan

WORDS = 40
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def save_text_model(folder: Path) -> Path:
    """Save a model whose embedding is tied to the head and padded beyond the tokenizer: 48 rows for 40 tokens."""
    from tokenizers import Tokenizer, models
    from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.1, eos_token_id=2, pad_token_id=0, bos_token_id=None,
        attention_dropout=0.1,
    )  # fmt: skip
    hf = Qwen2ForCausalLM(config)
    hf.generation_config = GenerationConfig(eos_token_id=[2, 3])
    hf.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w1"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w2", pad_token="w0", chat_template=TEMPLATE).save_pretrained(folder)
    return folder


def rollouts(count: int, seed: int = 0, **changes: Any) -> list[Trajectory]:
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        prompt, response = (rng.integers(4, WORDS, rng.integers(2, 9), dtype=np.int32) for _ in range(2))
        fields = {"temperature": 1.0, "logprobs": np.zeros(len(response), np.float32), "versions": (0,), **changes}
        made.append(Trajectory(0, index, index, Kind.REGULAR, prompt_tokens=prompt, tokens=response, truncated=False, **fields))
    return made


def plans(
    rows: list[Trajectory], advantages: list[float], ranks: int = 1, budget: int = 10_000, steps: int = 1, admit: bool = False
) -> list[UpdatePlan]:
    """Return each rank's plan for `rows`, which are response batch 0. `admit`: all samples enter the replay store."""
    batch = [Length(row.prompt, len(row.prompt_tokens), len(row.tokens)) for row in rows]
    return [
        replace(
            share,
            places=[(0, i) for i in share.responses],
            advantages=[advantages[i] for i in share.responses],
            right=[False] * len(share.responses),
            admitted=frozenset(range(len(share.responses))) if admit else frozenset(),
        )
        for share in plan(batch, ranks, budget, steps, seed=0)
    ]


ROWS = rollouts(12)
ADVANTAGES = np.random.default_rng(1).normal(size=12).tolist()


class Plain:
    """The same training in plain torch: one batch, no padding, no DeepSpeed."""

    def __init__(self, model: Path, lr: float = 2e-4, clip: float = 1000.0) -> None:
        from transformers import AutoModelForCausalLM

        self.hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.adamw = torch.optim.AdamW(self.hf.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.clip = clip

    def logprobs(self, row: Trajectory, temperature: float = 1.0) -> Tensor:
        ids = torch.from_numpy(np.concatenate([row.prompt_tokens, row.tokens])).long()[None]
        logits_TV = self.hf(input_ids=ids).logits[0, len(row.prompt_tokens) - 1 : -1, :WORDS]
        return (logits_TV / temperature).log_softmax(-1).gather(1, torch.from_numpy(row.tokens).long()[:, None])[:, 0]

    def detached(self, rows: list[Trajectory]) -> list[Tensor]:
        with torch.no_grad():
            return [self.logprobs(row) for row in rows]

    def step(self, loss: Tensor) -> float:
        self.adamw.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.hf.parameters(), self.clip)
        self.adamw.step()
        return float(norm)

    def policy_gradient(self, rows: list[Trajectory], advantages: list[float]) -> Tensor:
        """Return -A logp, averaged over all tokens."""
        total = sum(-a * self.logprobs(row).sum() for row, a in zip(rows, advantages, strict=True))
        return total / sum(len(row.tokens) for row in rows)

    def surrogate(self, rows: list[Trajectory], advantages: list[float], old: list[Tensor]) -> Tensor:
        """Return GRPO's clipped surrogate with dual clip 3, token by token."""
        loss = torch.zeros(())
        for row, a, old_T in zip(rows, advantages, old, strict=True):
            for ratio in (self.logprobs(row) - old_T).exp():
                kept = min(ratio * a, ratio.clamp(0.8, 1.2) * a)
                loss = loss - (max(kept, torch.tensor(3.0 * a)) if a < 0 else kept)
        return loss / sum(len(row.tokens) for row in rows)

    def weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.hf.named_parameters()}


# Scenarios, which run in the processes of `Ranks`.


def trained(learner: LearnerActor, batches: list[tuple[list[UpdatePlan], list[Trajectory]]]) -> SimpleNamespace:
    """Run updates in sequence. Returns metrics and old log-probabilities of each, and the final weights."""
    answers = [learner.update(shares[learner.rank], rows) for shares, rows in batches]
    return SimpleNamespace(metrics=[m for m, _ in answers], old=[old for _, old in answers], weights=weights(learner))


def trained_in_chunks(learner: LearnerActor, batches: list[tuple[list[UpdatePlan], list[Trajectory]]]) -> SimpleNamespace:
    """Train with logits of at most seven tokens at once, so that ranks have different numbers of chunks."""
    learner.policy.head.rows = 7
    return trained(learner, batches)


def published_then_trained(learner: LearnerActor, batches: list[tuple[list[UpdatePlan], list[Trajectory]]]) -> SimpleNamespace:
    learner.publish(7)
    return trained(learner, batches)


def trained_and_saved(learner: LearnerActor, batches: list[tuple[list[UpdatePlan], list[Trajectory]]], folder: str) -> SimpleNamespace:
    result = trained(learner, batches)
    learner.save(folder)
    return result


def saved_and_continued(learner: LearnerActor, before: Any, after: Any, folder: str) -> SimpleNamespace:
    trained(learner, before)
    learner.publish(5)
    learner.background_writes = True  # as on GPUs: the update below must not reach the files
    learner.save(folder)
    torch.rand(3)  # what is drawn after the checkpoint is drawn again after a resume
    drawn = trained(learner, after)
    wait_for_files(learner)
    return SimpleNamespace(**vars(drawn), random=torch.rand(3))


def wait_for_files(learner: LearnerActor) -> None:
    while not learner.written():
        time.sleep(0.01)


def loaded_and_continued(learner: LearnerActor, after: Any, folder: str) -> SimpleNamespace:
    learner.load(folder)
    start = weights(learner)
    state = (learner.steps_done, learner.version)
    torch.rand(3)
    drawn = trained(learner, after)
    return SimpleNamespace(**vars(drawn), random=torch.rand(3), start=start, state=state)


def trained_between_offloads(learner: LearnerActor, batches: Any, folder: str) -> SimpleNamespace:
    """Train as `trained` does, and move states away and back before each update and before saving."""
    results = []
    for batch in batches:
        learner.offload()
        learner.reload()
        results.append(trained(learner, [batch]))
    learner.offload()
    learner.reload()
    learner.save(folder)
    return SimpleNamespace(metrics=[m for result in results for m in result.metrics], weights=weights(learner))


def logprobs_and_entropies(learner: LearnerActor, sequences: Any) -> Any:
    return learner.logprobs(sequences)


def entropy(learner: LearnerActor, shares: list[UpdatePlan], rows: list[Trajectory]) -> float:
    return learner.entropy(shares[learner.rank], rows)


def exported(learner: LearnerActor, shares: list[UpdatePlan], rows: list[Trajectory], folder: str) -> dict[str, Tensor]:
    learner.update(shares[learner.rank], rows)
    learner.background_writes = True
    learner.save_hf(folder)
    saved = weights(learner)
    learner.update(shares[learner.rank], rows)
    wait_for_files(learner)
    return saved


def batch_written(learner: LearnerActor, share: UpdatePlan, rows: list[Trajectory], path: str) -> dict[str, float]:
    metrics, _ = learner.update(share, rows)
    learner.write_batch(path, share, rows)
    return metrics


def published_update(learner: LearnerActor, shares: list[UpdatePlan], rows: list[Trajectory]) -> Any:
    learner.update(shares[learner.rank], rows)
    return learner.publish(3)
