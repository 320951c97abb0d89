"""The actors of a run under its own Controller, for a bench to drive; and a single one of them."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import ray

from actors.driver.controller import Controller
from actors.driver.rollout_log import RolloutLog
from actors.driver.weight_sync import WeightExchange, tolerance
from actors.runtime.cluster import connect
from actors.runtime.logs import logged
from actors.runtime.supervisor import ActorSpec, Supervisor
from bench.processes import cpu_seconds, tree
from bench.turns import Block
from uec.algorithm.retention import PromptRollouts
from uec.config.schema import Config
from uec.data.dataset import Dataset
from uec.data.embedded import write_images
from uec.data.image import open_images
from uec.data.prompts import load_dataset
from uec.models.processor import Processor, load_processor
from uec.models.source import load_tokenizer
from uec.run_folder import RunFolder
from uec.system.platform import Platform, detect
from uec.tracking.tracker import Tracker
from uec.types import ImageFeatures

Recast = Callable[[Supervisor], None]
"""Puts other actors on some of the posts, before they start."""


def named(prefix: str) -> Recast:
    """A Recast: other names for the actors, so that they can stand beside those of another run on the same Ray."""

    def rename(supervisor: Supervisor) -> None:
        for member in supervisor.members:
            member.name = f"{prefix}-{member.name}"

    return rename


class NoLearner:
    """Stands on a learner's post where nothing is learned, so that nobody waits for DeepSpeed; it can only be started."""

    def __init__(self, cfg: Config, rank: int) -> None: ...

    def address(self) -> tuple[str, int]:
        return "", 0

    def start(self, address: tuple[str, int]) -> dict[str, float]:
        return {}

    def close(self) -> None: ...


def without_learners(supervisor: Supervisor) -> None:
    """A Recast: rollouts and gradings are real, learners are NoLearner."""
    for learner in supervisor.learners:
        learner.post = replace(learner.post, actor=NoLearner, cpus=0.01, environment={})


@contextmanager
def cluster(cfg: Config) -> Iterator[Platform]:
    """A local Ray for a bench."""
    resources = connect(cfg, namespace=f"uec-bench-{os.getpid()}")
    try:
        yield detect(cfg, resources.device)
    finally:
        ray.shutdown()


@asynccontextmanager
async def crew(cfg: Config, scratch: Path, recast: Recast = lambda supervisor: None) -> AsyncIterator[Controller]:
    """A Controller with its actors started, as a training run has them, on a Ray of its own; logs go to `scratch`."""
    with cluster(cfg) as platform:
        async with actors_of(cfg, platform, scratch, recast) as controller:
            yield controller


@asynccontextmanager
async def actors_of(cfg: Config, platform: Platform, scratch: Path, recast: Recast = lambda supervisor: None) -> AsyncIterator[Controller]:
    """The same on a Ray that is there."""
    dataset, _ = dataset_of(cfg, scratch)
    tracker = Tracker([])
    supervisor = Supervisor(cfg, platform.device, scratch / "logs", tracker)
    recast(supervisor)
    try:
        await supervisor.start(dataset.train)
        exchange = WeightExchange(cfg, supervisor, dataset.train, tolerance(cfg, platform))
        log = RolloutLog(RunFolder(scratch), supervisor, enabled=False)
        yield Controller(cfg, supervisor, dataset, exchange, log, tracker)
    finally:
        await supervisor.stop()


def dataset_of(cfg: Config, scratch: Path) -> tuple[Dataset, Processor | None]:
    """A run's data, with the processor that a vision-language model has."""
    tokenizer = load_tokenizer(cfg.model)
    processor = load_processor(cfg.model, cfg.data.image, tokenizer)
    return write_images(load_dataset(cfg, tokenizer, processor), scratch / "images"), processor


def features_of(cfg: Config, dataset: Dataset, processor: Processor | None) -> dict[int, ImageFeatures]:
    """Features of all training pictures, by prompt."""
    if processor is None:
        return {}
    return {p.index: processor.features(p, open_images(p, cfg.data.image)) for p in dataset.train if p.images}


async def explore(controller: Controller, prompts: list[int]) -> tuple[list[PromptRollouts], Block]:
    """Steps 1 to 4 of the algorithm for some prompts, as Controller.step does them; and what they took."""
    everyone_regular = asyncio.Barrier(len(prompts))
    begin = time.perf_counter()
    explored = await asyncio.gather(*(controller.explore(prompt, everyone_regular) for prompt in prompts))
    seconds = time.perf_counter() - begin
    return explored, Block(seconds, sum(t.score.response_tokens for prompt in explored for t in prompt.trajectories))


def create(post: ActorSpec, log: Path) -> Any:
    """One actor of a run, by itself."""
    environment = {"env_vars": {"TOKENIZERS_PARALLELISM": "false", **post.environment}}
    actor = ray.remote(logged(post.actor, log)).options(
        num_cpus=post.cpus, num_gpus=post.gpus, max_concurrency=post.concurrency, runtime_env=environment
    )
    return actor.remote(*post.args)


def cpu_of(actor: Any) -> Callable[[], float]:
    """A clock of the CPU time that an actor with its child processes and this process, which drives it, use."""
    pid = ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))
    return lambda: cpu_seconds([psutil.Process(), *tree(pid)])


def prompts_of(dataset: Dataset, k: int, count: int) -> list[int]:
    """The k-th `count` training prompts, from the start again after the last."""
    return [dataset.train[i % len(dataset.train)].index for i in range(k * count, (k + 1) * count)]
