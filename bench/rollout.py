"""RolloutActor's tokens/s against bare vLLM's on the default tasks' requests, for both kinds of engine, and with images.

Both sides have the same prompts, engine arguments, sampling parameters, threads and random state, and take turns. RolloutActor is
timed from the call in the driver to the arrival of the last response batch (its reference: tokens stay in the object store, as in
training); the bare engine is timed inside its process. With images, both get the features that the processor made.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from actors.driver.actor_specs import training_actors
from actors.engines.vllm.job import PromptImages
from actors.runtime.slots import Role
from bench.bare import Bare
from bench.metric import Metric, Target, compared
from bench.run_actors import cluster, cpu_of, create, dataset_of, features_of, prompts_of
from bench.task import TEXT, VISION, default_config
from bench.turns import Block, in_turns
from uec.errors import RunFailed
from uec.types import ImageFeatures, Kind, Prompt, Request

PAIRS = 9
BATCHES = 3
"""Batches of train.prompts_per_step prompts in a block, one after the other."""


@dataclass(frozen=True, slots=True)
class Side:
    """A kind of engine, and the bare engine that it is compared with."""

    what: str
    backend: str
    config: Path
    bare_class: str
    against: str
    target: Target


SIDES = (
    Side("in_actor engine", "in_actor", TEXT, "BareLLM", "bare vllm.LLM.generate", Target(0.90, at_most=False)),
    Side("async engine", "async", TEXT, "BareAsyncLLM", "bare AsyncLLM", Target(0.95, at_most=False)),
    Side("in_actor engine, with images", "in_actor", VISION, "BareVisionLLM", "bare LLMEngine", Target(0.80, at_most=False)),
)


def measure(scratch: Path, pairs: int = PAIRS, batches: int = BATCHES, sides: tuple[Side, ...] = SIDES) -> list[Metric]:
    return [_compare(side, scratch, pairs, batches) for side in sides]


def _compare(side: Side, scratch: Path, pairs: int, batches: int) -> Metric:
    backend, bare_class = side.backend, side.bare_class
    cfg = default_config(f"rollout.backend={backend}", config=side.config)
    dataset, processor = dataset_of(cfg, scratch)
    features = features_of(cfg, dataset, processor)
    work = [[prompts_of(dataset, k * batches + i, cfg.train.prompts_per_step) for i in range(batches)] for k in range(pairs)]
    groups = itertools.count()
    with cluster(cfg) as platform:
        [engine] = [spec for spec in training_actors(cfg, platform.device) if spec.role is Role.ENGINE]
        with Bare(f"bench.bare_engine:{bare_class}", (cfg,), engine.environment, scratch / f"logs/{bare_class}.log") as bare:
            actor = create(engine, scratch / f"logs/{engine.name}-{backend}.log")
            try:
                ray.get(actor.start.remote(dataset.train))
                bare.ready()
                state = ray.get(actor.state.remote())
                cpu = cpu_of(actor)

                stored = {prompt: ray.put(found) for prompt, found in features.items()}

                def ours(k: int) -> Block:
                    ray.get(actor.load.remote(state))
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
    """Return a prompt as the bare engines take it: its tokens, with images also their features."""
    tokens = prompt.tokens.tolist()
    return (tokens, PromptImages(features[prompt.index], prompt.spans)) if features else tokens


def _sample(actor: Any, batches: list[list[Request]], features: dict[int, Any]) -> Block:
    """Await the responses to all batches, one batch after the other. `features`: references to those of images, by prompt."""
    begin = time.perf_counter()
    response_batches = []
    for requests in batches:
        images = [features[request.prompt] for request in requests if features]
        response_batches += list(actor.generate.options(num_returns="streaming").remote(requests, *images))
    seconds = time.perf_counter() - begin
    return Block(seconds, sum(len(trajectory.tokens) for batch in ray.get(response_batches) for trajectory in batch))
