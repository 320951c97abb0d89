"""An engine that samples every token from one distribution. Its only weight is `logits`, [V], which updates replace."""

import hashlib
import json

import numpy as np

from actors.engines.base import Engine
from actors.weights.shm import check_file, read
from uec.types import Completion


class ToyEngine(Engine):
    def __init__(self, cfg, rank, name):
        self.version, self.rng = 0, np.random.default_rng(cfg.run.seed + rank)

    @staticmethod
    def environment(cfg):
        return {}

    async def start(self, prompts, sampling):
        self.sampling, self.logits_V = sampling, np.zeros(sampling.vocabulary)
        return {}

    async def generate(self, requests, images):
        for place, request in enumerate(requests):
            logprobs_V = self.logprobs_V(request.temperature)
            for index in range(request.n):
                tokens_T = self.rng.choice(len(logprobs_V), self.sampling.max_tokens, p=np.exp(logprobs_V)).astype(np.int32)
                ends = np.flatnonzero(np.isin(tokens_T, self.sampling.stop_tokens))
                tokens_T = tokens_T[: ends[0] + 1] if len(ends) else tokens_T
                yield [Completion(place, index, tokens_T, np.float32(logprobs_V[tokens_T]), not len(ends), self.version)]

    async def logprobs(self, continuations, images):
        return [np.float32(self.logprobs_V()[one.tokens]) for one in continuations]

    def logprobs_V(self, temperature=1.0):
        scaled_V = self.logits_V / temperature
        scaled_V[list(self.sampling.never)] = -np.inf
        return scaled_V - np.logaddexp.reduce(scaled_V)

    def check_weights(self, update):
        check_file(update)

    async def load_weights(self, update):
        ((_, logits_V),) = read(update.location, update.names, update.dtypes, update.shapes)
        self.logits_V, self.version = logits_V.double().numpy(), update.version

    async def checksum(self):
        return hashlib.sha256(self.logits_V.tobytes()).hexdigest()

    async def state(self):
        return [json.dumps(self.rng.bit_generator.state)]

    async def load(self, state):
        self.rng.bit_generator.state = json.loads(state[0])
