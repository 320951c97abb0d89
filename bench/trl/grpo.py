"""TRL's GRPOTrainer on our checkpoint and prompts, a few steps at a time. Runs in TRL's environment (requirements.txt)."""

import queue
import threading
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from bench.turns import Block
from uec.config.schema import Config
from uec.rewards.reward_function import load_reward

ENDLESS = 1_000_000


class StepGate(TrainerCallback):
    """Makes the trainer wait before a step until `steps` is called."""

    def __init__(self) -> None:
        self.asked: queue.Queue[int] = queue.Queue()
        self.arrived: queue.Queue[BaseException | None] = queue.Queue()  # None: all requested steps are done
        self._left = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._left == 0:
            self.arrived.put(None)
            self._left = self.asked.get()
        self._left -= 1


class Grpo:
    """TRL's GRPOTrainer with the default run's settings that TRL has, without exploration and replay, on `threads` threads."""

    def __init__(self, cfg: Config, rows: list[dict[str, Any]], threads: int, folder: str) -> None:
        torch.set_num_threads(threads)
        self._tokens = 0
        self._gate = StepGate()
        self._grader = load_reward(cfg.reward)
        self._columns = rows[0].keys() - {"prompt", "answer"}
        settings, rollout = cfg.learner, cfg.rollout
        arguments = GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=cfg.train.prompts_per_step * rollout.n,
            num_generations=rollout.n,
            max_completion_length=rollout.max_tokens,
            temperature=rollout.temperature,
            beta=cfg.loss.kl_coef,
            epsilon=cfg.loss.clip_low,
            epsilon_high=cfg.loss.clip_high,
            learning_rate=settings.lr,
            lr_scheduler_type="constant",
            adam_beta1=settings.betas[0],
            adam_beta2=settings.betas[1],
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.grad_clip,
            max_steps=ENDLESS,
            save_strategy="no",
            report_to=[],
            logging_steps=1,
            disable_tqdm=True,
            seed=cfg.run.seed,
        )
        self._trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(cfg.model.path, dtype=torch.float32),
            reward_funcs=self._reward,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(cfg.model.path, padding_side="left"),
            callbacks=[self._gate],
        )
        threading.Thread(target=self._train, daemon=True).start()
        self._wait()

    def steps(self, count: int) -> Block:
        """Run `count` more steps of generation, grading and update; return seconds and generated tokens."""
        begin, tokens_begin = time.perf_counter(), self._tokens
        self._gate.asked.put(count)
        self._wait()
        return Block(time.perf_counter() - begin, self._tokens - tokens_begin)

    def save(self, folder: str) -> None:
        """Write the policy, between two calls of `steps`."""
        self._trainer.model.save_pretrained(folder)

    def _reward(self, completions: list[str], completion_ids: list[list[int]], answer: list[str], **columns: Any) -> list[float]:
        self._tokens += sum(map(len, completion_ids))
        rows = [{column: columns[column][i] for column in self._columns} for i in range(len(completions))]
        parts = [self._grader(*graded) for graded in zip(completions, answer, rows, strict=True)]
        return [self._grader.reward(one) for one in parts]

    def _train(self) -> None:
        try:
            self._trainer.train()
        except BaseException as error:
            self._gate.arrived.put(error)

    def _wait(self) -> None:
        error = self._gate.arrived.get()
        if error is not None:
            raise error
