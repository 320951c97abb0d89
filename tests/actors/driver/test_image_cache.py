"""Features of images by reference: made once, ahead of time, and again when an ImageActor dies. Ray and the ImageActors are real.

The engine and the grader of some tests are stand-ins that say what features they were given.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image

from actors.driver.actor_specs import supervise, training_actors
from actors.driver.image_cache import STEPS_KEPT
from actors.driver.rollouts import RolloutStream
from actors.runtime.supervisor import Supervisor
from actors.workers.image import ImageActor
from tests.support import tiny_vlm
from tests.support.image_prompts import make_image_prompts, model_processor
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.models.processor import Processor
from uec.tracking.tracker import Tracker
from uec.types import ImageFeatures, Kind, Prompt, Request, TrainingSample, Trajectory

pytestmark = pytest.mark.e2e
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import a test module

SIZES = [[(60, 80)], [], [(140, 56), (57, 90)], *([(30 + 9 * i, 50)] for i in range(17))]
"""Sizes of each prompt's images; the second prompt has none."""

WITH_IMAGES = [index for index, sizes in enumerate(SIZES) if sizes]


class Counting(ImageActor):
    """Says how often each prompt was processed, and can be slow."""

    def __init__(self, cfg: Config, rank: int, half: bool = False) -> None:
        super().__init__(cfg, rank, half)
        self.seen: list[int] = []

    def process(self, wanted: list[int]) -> tuple[float | ImageFeatures, ...]:
        self.seen += wanted
        return super().process(wanted)

    def counts(self) -> dict[int, int]:
        """Since the last time that this was asked."""
        seen, self.seen = self.seen, []
        return {index: seen.count(index) for index in seen}

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Seeing:
    """An engine whose response to a prompt is the number of image tokens that it was given features for."""

    def __init__(self, cfg: Config, rank: int) -> None: ...

    async def start(self, prompts: object) -> None: ...

    async def generate(self, requests: list[Request], *features: ImageFeatures) -> AsyncIterator[list[Trajectory]]:
        tokens = {found.prompt: found.tokens for found in features}
        for request in requests:
            found = np.array([tokens.get(request.prompt, 0)], np.int32)
            yield [
                Trajectory(request.group, i, request.prompt, request.kind, 1.0, found, found, np.zeros(1, np.float32), False, (0,))
                for i in range(request.n)
            ]


class Grader:
    def __init__(self, cfg: Config, rank: int) -> None: ...

    async def start(self, prompts: object) -> None: ...

    async def grade(self, batch: list[Trajectory]) -> list[TrainingSample]:
        return [
            TrainingSample(one.prompt, slot, 1, 1, kind=one.kind, group=one.group, index=one.index, reward=float(one.tokens[0]))
            for slot, one in enumerate(batch)
        ]


class Idle:
    """Stands for an actor that a test has no use for."""

    def __init__(self, *_: Any) -> None: ...

    def start(self, *_: Any) -> None: ...

    def address(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm.build("qwen2_5_vl", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def processor(folder: Path) -> Processor:
    return model_processor(folder)


@pytest.fixture(scope="module")
def prompts(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    return [one.prompt for one in make_image_prompts(folder, SIZES, tmp_path_factory.mktemp("images"))]


@pytest.fixture(scope="module")
def worker(cluster: None, folder: Path, prompts: list[Prompt], project_config: Callable[..., Config]) -> Any:
    """An ImageActor that counts, for all tests but those that kill one."""
    actor = ray.remote(Counting).options(num_cpus=0.1, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}).remote(project_config(), 0)
    ray.get(actor.start.remote(prompts))
    return actor


@pytest.fixture(scope="module")
def project_config(folder: Path) -> Callable[..., Config]:
    from uec.config.file import load_config

    project = Path(__file__).resolve().parents[3]
    return lambda *overrides: load_config(
        project / "configs/vlm.yaml", [f"model.path={folder}", "train.prompts_per_step=1", "run.save_rollouts=false", *overrides]
    )


@pytest.fixture
def make(cluster: None, prompts: list[Prompt], project_config: Callable[..., Config], tmp_path: Path) -> Callable[..., Supervisor]:
    """A Supervisor of which nothing is started; it knows the prompts, and the given ImageActor."""

    def supervisor(handle: Any = None) -> Supervisor:
        cfg = project_config()
        made = supervise(cfg, training_actors(cfg, "cpu"), tmp_path / "logs", Tracker([]))
        made._prompts = ray.put(prompts)
        made.images.hold(prompts)
        [slot] = made.image_workers
        slot.spec = replace(slot.spec, actor=Counting)
        slot.handle = handle
        return made

    return supervisor


@pytest.fixture
def shared(make: Callable[..., Supervisor], worker: Any) -> Supervisor:
    ray.get(worker.counts.remote())
    return make(worker)


def references(supervisor: Supervisor, wanted: list[int]) -> list[ImageFeatures]:
    return ray.get(asyncio.run(supervisor.images.references(wanted)))


def expected(processor: Processor, prompt: Prompt) -> ImageFeatures:
    return processor.features(prompt, [Image.open(path) for path in prompt.images])


def same(found: ImageFeatures, wanted: ImageFeatures) -> None:
    assert (found.prompt, found.digests, found.tokens) == (wanted.prompt, wanted.digests, wanted.tokens)
    assert found.inputs.keys() == wanted.inputs.keys()
    for name, array in found.inputs.items():
        np.testing.assert_array_equal(array, wanted.inputs[name])


def counts(supervisor: Supervisor) -> dict[int, int]:
    return ray.get(supervisor.image_workers[0].handle.counts.remote())


def test_references_are_to_the_processors_features_in_the_order_asked_for(shared, processor, prompts):
    found = references(shared, [2, 1, 0, 2, 5])
    assert [features.prompt for features in found] == [2, 0, 5]  # the second has no images
    for features in found:
        same(features, expected(processor, prompts[features.prompt]))


def test_a_prompt_asked_for_twice_is_processed_once(shared):
    async def main() -> list[list[Any]]:
        one, other = await asyncio.gather(shared.images.references([0, 2]), shared.images.references([2, 3]))
        return [one, other, await shared.images.references([0, 2, 3])]

    one, other, again = asyncio.run(main())
    assert [*one, other[1]] == again and one[1] == other[0]
    assert counts(shared) == {0: 1, 2: 1, 3: 1}


def test_what_was_prefetched_is_ready_later_and_not_processed_again(shared):
    store = shared.images
    ray.get(shared.image_workers[0].handle.counts.remote())
    busy = shared.image_workers[0].handle.sleep.remote(1.0)
    begin = time.perf_counter()
    store.prefetch([0, 1, 2, 0])
    assert time.perf_counter() - begin < 0.5 and not store.is_ready(0)
    assert store.is_ready(1) and not store.is_ready(3)  # has no images; not requested
    ray.get(busy)
    deadline = time.perf_counter() + 30
    while not (store.is_ready(0) and store.is_ready(2)):
        assert time.perf_counter() < deadline
        time.sleep(0.01)
    store.prefetch([2, 0])
    assert [features.prompt for features in references(shared, [0, 2])] == [0, 2]
    assert counts(shared) == {0: 1, 2: 1}


def test_only_the_last_steps_features_are_kept_and_older_ones_are_made_anew(shared):
    for index in WITH_IMAGES[: STEPS_KEPT + 4]:
        references(shared, [index])
    references(shared, [WITH_IMAGES[4]])  # used last: is kept beyond the next
    references(shared, [WITH_IMAGES[-1]])
    assert len(shared.images._asked) == STEPS_KEPT
    counts(shared)
    kept = [WITH_IMAGES[4], *WITH_IMAGES[6 : STEPS_KEPT + 4], WITH_IMAGES[-1]]
    assert len(kept) == STEPS_KEPT
    references(shared, kept)
    assert counts(shared) == {}
    references(shared, [WITH_IMAGES[5]])
    assert counts(shared) == {WITH_IMAGES[5]: 1}
    assert len(references(shared, WITH_IMAGES)) == len(WITH_IMAGES) > STEPS_KEPT  # a step may ask for more than is kept


async def start(supervisor: Supervisor, name: str, **actors: type) -> list[Any]:
    """Start the supervisor's engine and grader as stand-ins."""
    [engine], [grader] = supervisor.engines, supervisor.graders
    engine.spec = replace(engine.spec, actor=Seeing, environment={})
    grader.spec = replace(grader.spec, actor=Grader)
    for slot in (engine, grader):
        slot.handle = supervisor._create(slot, f"{name}-{slot.name}")
    return [engine.handle, grader.handle]


def sampled(
    supervisor: Supervisor, name: str, wanted: list[int], during: Callable[[], None] = lambda: None
) -> dict[int, list[TrainingSample]]:
    """A group of two to each prompt."""

    async def main() -> list[list[TrainingSample]]:
        handles = await start(supervisor, name)
        stream = RolloutStream(supervisor)
        groups = asyncio.gather(*(stream.sample(prompt, 2, 1.0, Kind.REGULAR) for prompt in wanted))
        await asyncio.sleep(0.1)
        during()
        try:
            return await groups
        finally:
            for handle in handles:
                ray.kill(handle)

    return {group[0].prompt: group for group in asyncio.run(main())}


def given(groups: dict[int, list[TrainingSample]]) -> dict[int, set[float]]:
    return {prompt: {sample.reward for sample in group} for prompt, group in groups.items()}


def test_engines_are_given_each_prompts_features_and_a_dead_imageactor_is_replaced(make, prompts, processor, tmp_path):
    supervisor = make()
    [member] = supervisor.image_workers
    member.handle = supervisor._create(member, tmp_path.name)
    ray.get(member.handle.start.remote(supervisor._prompts))
    member.handle.sleep.remote(60.0)  # it is busy when it dies
    first = member.handle
    groups = sampled(supervisor, tmp_path.name, list(range(len(SIZES))), during=lambda: ray.kill(first))
    wanted = {prompt.index: {float(sum(end - begin for begin, end in prompt.spans))} for prompt in prompts}
    assert given(groups) == wanted
    assert member.restarts == 1 and member.handle is not first
    last = references(supervisor, [WITH_IMAGES[-1]])
    ray.kill(member.handle)
    assert references(supervisor, [WITH_IMAGES[-1]])[0].digests == last[0].digests  # features outlive their ImageActor
    assert member.restarts == 1
    same(last[0], expected(processor, prompts[WITH_IMAGES[-1]]))


def test_more_groups_at_once_than_are_kept_have_their_images_processed_once(shared, tmp_path):
    assert len(WITH_IMAGES) > 2 * STEPS_KEPT
    sampled(shared, tmp_path.name, list(range(len(SIZES))))
    assert counts(shared) == dict.fromkeys(WITH_IMAGES, 1)


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda path: path.unlink(), "is no file"),
        (lambda path: Image.new("RGB", (140, 140)).save(path), "now makes .*was an image changed since"),
        (lambda path: Image.new("RGB", (900, 2)).save(path), "aspect ratio"),
        (lambda path: path.write_bytes(path.read_bytes()[:60]), "is damaged"),
    ],
    ids=["deleted", "another-size", "refused-by-the-processor", "cut-off"],
)
def test_an_image_that_changes_during_the_run_ends_it_with_the_prompts_number(shared, prompts, spoil, cause, tmp_path):
    path = Path(prompts[4].images[0])
    content = path.read_bytes()
    try:
        spoil(path)
        with pytest.raises(RunFailed, match=rf"image-0 failed: .*prompt 4: (?s:.*){cause}"):
            sampled(shared, tmp_path.name, [0, 3, 4])
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("kind", ["text", "images"])
def test_imageactors_are_started_only_where_there_are_images(cluster, project_config, prompts, tmp_path, kind):
    cfg = project_config("data.image.workers=2")
    specs = [replace(spec, actor=Idle, args=(), cpus=0.01, concurrency=1, environment={}) for spec in training_actors(cfg, "cpu")]
    supervisor = supervise(cfg, specs, tmp_path / "logs", Tracker([]))
    chosen = [prompt for prompt in prompts if kind == "images" or not prompt.images]

    async def main() -> None:
        await supervisor.start(chosen)
        assert supervisor.images.is_ready(WITH_IMAGES[0]) is (kind == "text")  # nobody asks for what no prompt has
        if kind == "text":
            assert await supervisor.images.references(range(len(SIZES))) == []

    asyncio.run(main())
    assert [slot.name for slot in supervisor.image_workers] == ([] if kind == "text" else ["image-0", "image-1"])
    assert all(slot.handle is not None for slot in supervisor.slots)
    for slot in supervisor.slots:
        ray.kill(slot.handle)
