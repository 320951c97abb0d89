"""RolloutActor's tokens/s against bare vLLM's on the default tasks' requests, for both kinds of engine, and with pictures.

The same prompts, engine arguments, sampling parameters, threads and random state on both sides, in turns. Ours is timed from
the call in the driver to the last bundle's arrival (its reference: tokens stay in the object store, as in training); the bare
engine is timed inside its own process. With pictures both are given the features that the processor made of them.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from actors.engines.vllm.job import Pictures
from actors.runtime.supervisor import Supervisor
from bench.bare import Bare
from bench.crew import cluster, cpu_of, create, dataset_of, features_of, prompts_of
from bench.figure import Figure, Target, compared
from bench.task import TEXT, VISION, default_config
from bench.turns import Block, in_turns
from uec.errors import RunFailed
from uec.tracking.tracker import Tracker
from uec.types import ImageFeatures, Kind, Prompt, Request

PAIRS = 9
BATCHES = 3
"""Batches of train.prompts_per_step prompts in a block, one after the other."""


@dataclass(frozen=True, slots=True)
class Side:
    """A kind of engine, and what it is held against."""

    what: str
    backend: str
    config: Path
    bare_class: str
    against: str
    target: Target


SIDES = (
    Side("in_actor engine", "in_actor", TEXT, "BareLLM", "bare vllm.LLM.generate", Target(0.90, at_most=False)),
    Side("async engine", "async", TEXT, "BareAsyncLLM", "bare AsyncLLM", Target(0.95, at_most=False)),
    Side("in_actor engine, with pictures", "in_actor", VISION, "BareVisionLLM", "bare LLMEngine", Target(0.80, at_most=False)),
)


def measure(scratch: Path, pairs: int = PAIRS, batches: int = BATCHES, sides: tuple[Side, ...] = SIDES) -> list[Figure]:
    return [_compare(side, scratch, pairs, batches) for side in sides]


def _compare(side: Side, scratch: Path, pairs: int, batches: int) -> Figure:
    backend, bare_class = side.backend, side.bare_class
    cfg = default_config(f"rollout.backend={backend}", config=side.config)
    dataset, processor = dataset_of(cfg, scratch)
    features = features_of(cfg, dataset, processor)
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

                stored = {prompt: ray.put(found) for prompt, found in features.items()}

                def ours(k: int) -> Block:
                    ray.get(actor.load_rng_state.remote(state))
                    requests = [
                        [Request(next(groups), prompt, cfg.rollout.n, cfg.rollout.temperature, Kind.REGULAR) for prompt in batch]
                        for batch in work[k]
                    ]
                    cpu_begin = cpu()
                    block = _sample(actor, requests, stored)
                    return replace(block, cpu_s=cpu() - cpu_begin)

                def theirs(k: int) -> Block:
                    bare.call("load_random_state", state)
                    return bare.call("sample", [[_for_bare(dataset.train[prompt], features) for prompt in batch] for batch in work[k]])

                mine, bares = asyncio.run(in_turns(ours, theirs, pairs))
            except ray.exceptions.RayError as error:
                raise RunFailed(f"the engine of rollout.backend={backend} failed: {error}") from error
    tokens, same = sum(block.tokens for block in mine), [block.tokens for block in mine] == [block.tokens for block in bares]
    return compared(
        f"RolloutActor, {side.what}",
        mine,
        bares,
        lambda block: block.rate,
        "tokens/s",
        side.against,
        side.target,
        f"{tokens} tokens, " + ("the same on both sides" if same else f"bare {sum(block.tokens for block in bares)}"),
    )


def _for_bare(prompt: Prompt, features: dict[int, ImageFeatures]) -> Any:
    """A prompt as the bare engines take it: its tokens, and what there is of pictures."""
    tokens = prompt.tokens.tolist()
    return (tokens, Pictures(features[prompt.index], prompt.spans)) if features else tokens


def _sample(actor: Any, batches: list[list[Request]], features: dict[int, Any]) -> Block:
    """All bundles of the batches, one batch after the other. `features`: references to those of pictures, by prompt."""
    begin = time.perf_counter()
    bundles = []
    for requests in batches:
        pictures = [features[request.prompt] for request in requests if features]
        bundles += list(actor.generate.options(num_returns="streaming").remote(requests, *pictures))
    seconds = time.perf_counter() - begin
    return Block(seconds, sum(len(rollout.tokens) for bundle in ray.get(bundles) for rollout in bundle))
