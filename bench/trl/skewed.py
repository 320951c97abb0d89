"""Responses of very different lengths: a model of random weights, for us and TRL, ends a response by chance.

An end-of-text token is one of about a hundred, each as likely as the others, so lengths are about geometric: half of the responses
have fewer than 77 tokens, a tenth reach the limit. A static batch decodes until its longest response ends, and trains on as much
padding. The reward is a coin (coin.py) and the learning rate next to none, so that lengths stay as they are.
"""

import asyncio
import shutil
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from actors.driver.controller import Controller
from bench.bare import Bare
from bench.metric import Metric, Target
from bench.run_actors import prompts_of
from bench.steps import AHEAD, in_blocks_of
from bench.task import default_config
from bench.trl.sides import both, steps_in_turns
from uec.config.schema import Config

PROMPTS, LONGEST = 16, 256
STEPS, PAIRS = 12, 3
"""Steps of our block, and pairs; TRL's block is one step, which takes about as long."""

TARGET = Target(6.0, at_most=False)
BARE_BATCHES = 4


def compare(scratch: Path, steps: int = STEPS, pairs: int = PAIRS) -> list[Metric]:
    """Return tokens/s against TRL, and those of bare vLLM, which learns nothing, as the limit."""
    scratch.mkdir()
    return asyncio.run(_compare(skewed_config(scratch / "model", *in_blocks_of(steps)), scratch, steps, pairs))


def skewed_config(folder: Path, *overrides: str) -> Config:
    """Return settings of GRPO with PROMPTS x 8 responses per step; create the model in `folder`."""
    cfg = default_config(
        "algorithm=grpo", *AHEAD, "learner.lr=1e-9", "reward.fn=bench.trl.coin:score", f"train.prompts_per_step={PROMPTS}",
        f"rollout.max_tokens={LONGEST}", *overrides,
    )  # fmt: skip
    make_model(Path(cfg.model.path), folder)
    cfg.model.path = str(folder)
    return cfg


def make_model(tokenizer: Path, folder: Path) -> None:
    """Write a Qwen2 of 1.7M random parameters, with the tokenizer of the model in the folder `tokenizer`."""
    torch.manual_seed(0)
    config = Qwen2Config.from_pretrained(tokenizer)
    config.update({"hidden_size": 192, "intermediate_size": 544, "num_attention_heads": 6, "tie_word_embeddings": False})
    Qwen2ForCausalLM(config).save_pretrained(folder)
    for file in tokenizer.glob("tokenizer*"):
        shutil.copy(file, folder)


async def _compare(cfg: Config, scratch: Path, steps: int, pairs: int) -> list[Metric]:
    what = "skewed lengths, algorithm=grpo, train.max_staleness=1"
    async with both(cfg, scratch) as (controller, trl):
        trl.ready()
        alone = await asyncio.to_thread(_bare_vllm, controller, scratch)
        return [await steps_in_turns(what, controller, trl, steps, 1, pairs, TARGET), alone]


def _bare_vllm(controller: Controller, scratch: Path) -> Metric:
    """Measure batches of a step's size in a process with vLLM alone."""
    cfg, dataset = controller.cfg, controller.dataset
    batches = [[dataset.train[i].tokens.tolist() for i in prompts_of(dataset, k, PROMPTS)] for k in range(1 + BARE_BATCHES)]
    environment = controller.supervisor.engines[0].spec.environment
    with Bare("bench.bare_engine:BareLLM", (cfg,), environment, scratch / "logs/BareLLM.log") as vllm:
        vllm.call("sample", batches[:1])
        whole = vllm.call("sample", batches[1:])
    note = f"{whole.seconds / BARE_BATCHES:.2f} s and {whole.tokens / BARE_BATCHES:.0f} tokens a batch; one thread, nothing learned"
    return Metric("skewed lengths, bare vllm.LLM.generate alone", whole.rate, "tokens/s", note=note)
