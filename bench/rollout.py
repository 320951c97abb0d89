"""RolloutActor's tokens/s against bare vLLM's on the default task's requests, for both kinds of engine.

The same prompts, engine arguments, sampling parameters, threads and random state on both sides, in turns. Ours is timed from
the call in the driver to the last bundle's arrival (its reference: tokens stay in the object store, as in training); the bare
engine is timed inside its own process.
"""

import asyncio
import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from actors.supervisor import Supervisor
from bench.bare import Bare
from bench.crew import cluster, cpu_of, create, prompts_of
from bench.figure import Figure, Target, compared
from bench.task import default_config
from bench.turns import Block, in_turns
from uec.data.prompts import load_dataset
from uec.errors import RunFailed
from uec.models.source import load_tokenizer
from uec.tracking.tracker import Tracker
from uec.types import Kind, Request

PAIRS = 9
BATCHES = 3
"""Batches of train.prompts_per_step prompts in a block, one after the other."""

SIDES = {
    "in_actor": ("BareLLM", "bare vllm.LLM.generate", Target(0.90, at_most=False)),
    "async": ("BareAsyncLLM", "bare AsyncLLM", Target(0.95, at_most=False)),
}


def measure(scratch: Path, pairs: int = PAIRS, batches: int = BATCHES) -> list[Figure]:
    return [_compare(backend, scratch, pairs, batches) for backend in SIDES]


def _compare(backend: str, scratch: Path, pairs: int, batches: int) -> Figure:
    bare_class, against, target = SIDES[backend]
    cfg = default_config(f"rollout.backend={backend}")
    dataset = load_dataset(cfg, load_tokenizer(cfg.model))
    work = [[prompts_of(dataset, k * batches + i, cfg.train.prompts_per_step) for i in range(batches)] for k in range(pairs)]
    groups = itertools.count()
    with cluster(cfg) as platform:
        [engine] = Supervisor(cfg, platform.device, scratch / "logs", Tracker([])).engines
        with Bare(f"bench.bare_engine:{bare_class}", (cfg,), engine.post.environment, scratch / f"logs/{bare_class}.log") as bare:
            actor = create(engine.post, scratch / f"logs/{engine.name}-{backend}.log")
            try:
                ray.get(actor.start.remote(dataset.train))
                bare.ready()
                state = ray.get(actor.rng_state.remote())
                cpu = cpu_of(actor)

                def ours(k: int) -> Block:
                    ray.get(actor.load_rng_state.remote(state))
                    requests = [
                        [Request(next(groups), prompt, cfg.rollout.n, cfg.rollout.temperature, Kind.REGULAR) for prompt in batch]
                        for batch in work[k]
                    ]
                    cpu_begin = cpu()
                    block = _sample(actor, requests)
                    return replace(block, cpu_s=cpu() - cpu_begin)

                def theirs(k: int) -> Block:
                    bare.call("load_random_state", state)
                    return bare.call("sample", [[dataset.train[prompt].tokens.tolist() for prompt in batch] for batch in work[k]])

                mine, bares = asyncio.run(in_turns(ours, theirs, pairs))
            except ray.exceptions.RayError as error:
                raise RunFailed(f"the engine of rollout.backend={backend} failed: {error}") from error
    tokens, same = sum(block.tokens for block in mine), [block.tokens for block in mine] == [block.tokens for block in bares]
    return compared(
        f"RolloutActor, {backend} engine",
        mine,
        bares,
        lambda block: block.rate,
        "tokens/s",
        against,
        target,
        f"{tokens} tokens, " + ("the same on both sides" if same else f"bare {sum(block.tokens for block in bares)}"),
    )


def _sample(actor: Any, batches: list[list[Request]]) -> Block:
    """All bundles of the batches, one batch after the other."""
    begin = time.perf_counter()
    bundles = [bundle for requests in batches for bundle in actor.generate.options(num_returns="streaming").remote(requests)]
    seconds = time.perf_counter() - begin
    return Block(seconds, sum(len(rollout.tokens) for bundle in ray.get(bundles) for rollout in bundle))
