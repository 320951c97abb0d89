"""Start all actors of a run under a Controller that a bench drives, or a single actor."""

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

from actors.driver.actor_specs import supervise, training_actors
from actors.driver.controller import Controller
from actors.driver.rollout_log import RolloutLog
from actors.driver.weight_sync import WeightSync
from actors.runtime.cluster import connect
from actors.runtime.logs import logged
from actors.runtime.slots import ActorSpec
from actors.runtime.supervisor import Supervisor
from bench.processes import cpu_seconds, tree
from bench.turns import Block
from uec.config.schema import Config
from uec.data.dataset import Dataset
from uec.data.embedded_images import write_images
from uec.data.image_file import open_images
from uec.data.prompts import load_dataset
from uec.models.logprob_gap import tolerance
from uec.models.pretrained import load_tokenizer
from uec.models.processor import Processor, load_processor
from uec.run_folder import RunFolder
from uec.system.platform import Platform, detect
from uec.tracking.tracker import Tracker
from uec.types import ImageFeatures, PromptRollouts

SpecChange = Callable[[Supervisor], None]
"""Changes the specs of some actors before they start."""


def named(prefix: str) -> SpecChange:
    """A SpecChange: other names for the actors, so that two runs can share one Ray."""

    def rename(supervisor: Supervisor) -> None:
        for slot in supervisor.slots:
            slot.spec = replace(slot.spec, name=f"{prefix}-{slot.name}")

    return rename


class NoLearner:
    """Replaces the learner where nothing is learned, so that no bench waits for DeepSpeed; it can only be started."""

    def __init__(self, cfg: Config, rank: int) -> None: ...

    def address(self) -> tuple[str, int]:
        return "", 0

    def start(self, address: tuple[str, int]) -> dict[str, float]:
        return {}

    def close(self) -> None: ...


def without_learners(supervisor: Supervisor) -> None:
    """A SpecChange: rollouts and grading are real, learners are NoLearner."""
    for learner in supervisor.learners:
        learner.spec = replace(learner.spec, actor=NoLearner, cpus=0.01, environment={})


@contextmanager
def cluster(cfg: Config) -> Iterator[Platform]:
    """Start a local Ray for a bench, and stop it at the end."""
    resources = connect(cfg, namespace=f"uec-bench-{os.getpid()}")
    try:
        yield detect(cfg, resources.device)
    finally:
        ray.shutdown()


@asynccontextmanager
async def run_actors(cfg: Config, scratch: Path, change_specs: SpecChange = lambda supervisor: None) -> AsyncIterator[Controller]:
    """Start a local Ray and the actors of a training run; yield their Controller. Logs go to `scratch`."""
    with cluster(cfg) as platform:
        async with actors_on(cfg, platform, scratch, change_specs) as controller:
            yield controller


@asynccontextmanager
async def actors_on(
    cfg: Config, platform: Platform, scratch: Path, change_specs: SpecChange = lambda supervisor: None
) -> AsyncIterator[Controller]:
    """Start the actors of a training run on the Ray that runs already; yield their Controller."""
    dataset, _ = dataset_of(cfg, scratch)
    tracker = Tracker([])
    supervisor = supervise(cfg, training_actors(cfg, platform.device), scratch / "logs", tracker)
    change_specs(supervisor)
    try:
        await supervisor.start(dataset.train)
        weights = WeightSync(cfg, supervisor, dataset.train, tolerance(cfg, platform))
        log = RolloutLog(RunFolder(scratch), supervisor, enabled=False)
        yield Controller(cfg, supervisor, dataset, weights, log, tracker)
    finally:
        await supervisor.stop()


def dataset_of(cfg: Config, scratch: Path) -> tuple[Dataset, Processor | None]:
    """Return a run's data, and the processor of a vision-language model."""
    tokenizer = load_tokenizer(cfg.model)
    processor = load_processor(cfg.model, cfg.data.image, tokenizer)
    return write_images(load_dataset(cfg, tokenizer, processor), scratch / "images"), processor


def features_of(cfg: Config, dataset: Dataset, processor: Processor | None) -> dict[int, ImageFeatures]:
    """Return the features of all training images, by prompt."""
    if processor is None:
        return {}
    return {p.index: processor.features(p, open_images(p, cfg.data.image)) for p in dataset.train if p.images}


async def explore(controller: Controller, prompts: list[int]) -> tuple[list[PromptRollouts], Block]:
    """Run steps 1 to 4 of the algorithm for some prompts, as Controller.step does; return the responses, the time and the tokens."""
    regular_done = asyncio.Barrier(len(prompts))
    begin = time.perf_counter()
    explored = await asyncio.gather(*(controller.sampler.prompt(prompt, regular_done) for prompt in prompts))
    seconds = time.perf_counter() - begin
    return explored, Block(seconds, sum(sample.response_tokens for prompt in explored for sample in prompt.samples))


def create(spec: ActorSpec, log: Path) -> Any:
    """Create one actor of a run."""
    actor = ray.remote(logged(spec.actor, log)).options(
        num_cpus=spec.cpus, num_gpus=spec.gpus, max_concurrency=spec.concurrency, runtime_env=spec.runtime_env
    )
    return actor.remote(*spec.args)


def cpu_of(actor: Any) -> Callable[[], float]:
    """Return a clock of the CPU time of an actor, its child processes and this process, which drives it."""
    pid = ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))
    return lambda: cpu_seconds([psutil.Process(), *tree(pid)])


def prompts_of(dataset: Dataset, k: int, count: int) -> list[int]:
    """Return the k-th `count` training prompts, which begin again after the last."""
    return [dataset.train[i % len(dataset.train)].index for i in range(k * count, (k + 1) * count)]
