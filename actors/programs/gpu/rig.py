"""What the GPU checks run on: a random model of Qwen2.5-0.5B's shape, made-up prompts and responses, and their sizes.

Nothing is downloaded. A test replaces the rig by a CPU's, with a tiny model and named stand-ins for what only a GPU does.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from actors.programs.gpu.measured import AttentionLearner, MeasuredLearner
from actors.workers.rollout import RolloutActor
from uec.config.file import load_config
from uec.config.presets import PROJECT
from uec.config.schema import Config
from uec.config.validate import validate
from uec.system.gpu_devices import gpu_devices
from uec.types import Kind, Prompt, Trajectory

QWEN = {
    "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}  # fmt: skip
"""The shape of Qwen2.5-0.5B."""

WORDS = 151_646
"""Tokens of Qwen2.5's tokenizer; the embedding is padded beyond them."""

SPECIAL = ("<pad>", "<unknown>", "<eos>")  # tokens 0, 1 and 2


@dataclass(frozen=True)
class Rig:
    """A device, a model and a workload. The defaults are a GPU's."""

    device: str = "cuda"
    gpus: int = field(default_factory=lambda: len(gpu_devices()))
    device_bytes: int = field(default_factory=lambda: min((gpu.bytes for gpu in gpu_devices()), default=0))
    dtype: str = "bfloat16"
    shape: dict[str, Any] = field(default_factory=lambda: QWEN)
    words: int = WORDS
    prompts: int = 32  # to sample from
    groups: int = 16  # made-up prompts of an update, with `responses` each
    responses: int = 8
    prompt_tokens: tuple[int, int] = (150, 700)  # least and most
    response_tokens: tuple[int, int] = (60, 512)
    kinds: tuple[str, ...] = ("varlen", "blocks")  # of `learner.attention`
    tensor_parallel: int = 2
    overrides: tuple[str, ...] = ()
    engine: type = RolloutActor
    learner: type = MeasuredLearner
    attention_learner: type = AttentionLearner
    judges_speed: bool = True
    patience: float = 1.0  # factor of all time limits
    least_tokens_per_s: float = 500.0  # far below any supported GPU: it shows an engine that does not use its GPU

    def config(self, folder: Path, *more: str) -> Config:
        """Return a validated config of one engine and one learner rank that share the GPU."""
        cfg = load_config(PROJECT / "configs/llm.yaml", [
            f"model.path={folder / 'model'}", f"model.dtype={self.dtype}", f"data.train={folder / 'prompts.jsonl'}", "data.eval=null",
            f"data.max_prompt_tokens={self.prompt_tokens[1]}", "reward.fn=exact", f"run.dir={folder}",
            f"rollout.n={self.responses}", f"rollout.max_tokens={self.response_tokens[1]}", "rollout.kv_cache_mb=null",
            "rollout.max_num_seqs=256", "rollout.max_batched_tokens=8192", "rollout.gpu_memory=0.4", "rollout.prefix_caching=true",
            "exploration.enabled=false", "replay.enabled=false", f"train.prompts_per_step={self.groups}",
            "learner.zero_stage=2", "learner.gradient_checkpointing=true", "learner.micro_batch_tokens=16384", "learner.lr=1e-4",
            "weights.pause=wait", "cluster.placement=colocated", "cluster.address=local", *self.overrides, *more,
        ])  # fmt: skip
        validate(cfg)
        return cfg

    def make_model(self, folder: Path) -> None:
        """Write a random model, its tokenizer and the prompts to sample from."""
        import torch
        from transformers import Qwen2Config, Qwen2ForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.manual_seed(0)
        config = Qwen2Config(**self.shape, eos_token_id=2, pad_token_id=0, bos_token_id=None)
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, self.dtype))
        try:
            Qwen2ForCausalLM(config).save_pretrained(folder / "model")
        finally:
            torch.set_default_dtype(dtype)
        _save_tokenizer(folder / "model", self.words)
        rng = np.random.default_rng(0)
        rows = (" ".join(f"w{word}" for word in self._words(rng, self.prompt_tokens)) for _ in range(self.prompts))
        text = "".join(json.dumps({"prompt": row, "answer": "w7"}) + "\n" for row in rows)
        (folder / "prompts.jsonl").write_text(text, encoding="utf-8")

    def made_up(self, prompts: list[Prompt]) -> list[Trajectory]:
        """Return `responses` random responses to each of the first `groups` prompts; the same ones at each call, of no engine's version."""
        rng = np.random.default_rng(1)
        found = []
        for group, prompt in enumerate(prompts[: self.groups]):
            for index in range(self.responses):
                tokens = self._words(rng, self.response_tokens).astype(np.int32)
                logprobs = np.full(len(tokens), -float(np.log(self.words)), np.float32)
                found.append(Trajectory(group, index, prompt.index, Kind.REGULAR, 1.0, prompt.tokens, tokens, logprobs, False, (-1,)))
        return found

    def _words(self, rng: np.random.Generator, length: tuple[int, int]) -> "np.ndarray[Any, Any]":
        return rng.integers(len(SPECIAL), self.words, int(rng.integers(length[0], length[1] + 1)))


def _save_tokenizer(folder: Path, words: int) -> None:
    """Write a tokenizer of words w3, w4, ..., which spaces separate."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    known = [*SPECIAL, *(f"w{word}" for word in range(len(SPECIAL), words))]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(known)}, unk_token=SPECIAL[1]))
    tokenizer.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment]
    pad, unknown, eos = SPECIAL
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, eos_token=eos).save_pretrained(folder)
