"""The learner's work as a plain loop with transformers and AdamW: the bound that LearnerActor is compared with."""

import time

import torch
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from bench.rows import Row, Trained
from bench.turns import Block
from uec.config.schema import Config


class BareLoop:
    """One optimizer step per update on GRPO's clipped loss (arXiv 2402.03300) as a token mean, without metrics and entropy."""

    def __init__(self, cfg: Config) -> None:
        settings = cfg.learner
        torch.set_num_threads(settings.threads)
        self.settings, self.loss = settings, cfg.loss
        self.model = AutoModelForCausalLM.from_pretrained(cfg.model.path, dtype=torch.float32).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.lr, betas=tuple(settings.betas), weight_decay=settings.weight_decay, fused=True
        )

    def update(self, micro_batches: list[list[Row]]) -> Trained:
        """Train on rows in micro-batches, each padded on the right to its longest row."""
        begin, cpu_begin = time.perf_counter(), time.process_time()
        response_tokens = sum(len(row.response) for rows in micro_batches for row in rows)
        for rows in micro_batches:
            (self._loss(rows) / response_tokens).backward()
        norm = clip_grad_norm_(self.model.parameters(), self.settings.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        seconds, cpu_s = time.perf_counter() - begin, time.process_time() - cpu_begin
        tokens = sum(len(row.prompt) + len(row.response) for rows in micro_batches for row in rows)
        return Trained(Block(seconds, tokens, cpu_s), float(norm))

    def _loss(self, rows: list[Row]) -> torch.Tensor:
        """Return the loss, summed over the response tokens."""
        ids_BL = pad_sequence([torch.tensor([*row.prompt, *row.response]) for row in rows], batch_first=True)
        starts_B = torch.tensor([len(row.prompt) for row in rows])[:, None]
        ends_B = torch.tensor([len(row.prompt) + len(row.response) for row in rows])[:, None]
        places_L = torch.arange(1, ids_BL.shape[1])
        response_BL = (places_L >= starts_B) & (places_L < ends_B)
        advantages_N = torch.tensor([row.advantage for row in rows])[:, None].expand_as(response_BL)[response_BL]
        # A causal model needs no mask for right padding: a token does not attend to later ones.
        logits_NV = self.model(ids_BL, use_cache=False).logits[:, :-1][response_BL]
        logprobs_N = logits_NV.log_softmax(-1).gather(1, ids_BL[:, 1:][response_BL][:, None]).squeeze(1)
        ratios_N = (logprobs_N - logprobs_N.detach()).exp()
        clipped_N = ratios_N.clamp(1 - self.loss.clip_low, 1 + self.loss.clip_high)
        return -torch.minimum(ratios_N * advantages_N, clipped_N * advantages_N).sum()
