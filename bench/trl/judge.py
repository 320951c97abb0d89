"""The evaluator of all policies, with the same sampling, prompts and grading. It uses transformers without an engine."""

import torch
from transformers import AutoModelForCausalLM

from uec.config.schema import Config
from uec.models.pretrained import load_decoder, load_tokenizer
from uec.rewards.reward_function import load_reward
from uec.types import Prompt


class Judge:
    """Samples `cfg.eval.n` responses to each of the prompts, at temperature 1, in one batch."""

    def __init__(self, cfg: Config, prompts: list[Prompt], threads: int) -> None:
        torch.set_num_threads(threads)
        self._cfg, self._prompts = cfg, prompts
        self._grader = load_reward(cfg.reward)
        self._decode = load_decoder(cfg.model, cfg.rollout.stop_tokens)
        tokenizer = load_tokenizer(cfg.model)
        tokenizer.padding_side = "left"
        ids = {"input_ids": [prompt.tokens.tolist() for prompt in prompts]}
        self._inputs = tokenizer.pad(ids, return_tensors="pt")
        self._ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}

    def right(self, folder: str) -> list[int]:
        """Return the number of right responses to each prompt by the policy in `folder`."""
        n = self._cfg.eval.n
        torch.manual_seed(0)
        policy = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": self._cfg.rollout.max_tokens}
        with torch.inference_mode():
            ids_RL = policy.generate(**self._inputs, **sampling, **self._ends, num_return_sequences=n)
        responses = self._decode(list(ids_RL[:, self._inputs["input_ids"].shape[1] :].numpy()))
        return [
            sum(self._accuracy(prompt, response) == 1 for response in responses[i * n : (i + 1) * n])
            for i, prompt in enumerate(self._prompts)
        ]

    def _accuracy(self, prompt: Prompt, response: str) -> float:
        return self._grader(response, prompt.answer, prompt.row)["accuracy"]
