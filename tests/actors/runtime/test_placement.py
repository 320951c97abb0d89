"""Who gets which GPU: Ray's own bookkeeping, of GPUs that are not there, with actors that only say what they were given."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.driver.actor_specs import entropy_actors, sampling_actors, supervise, training_actors
from actors.runtime.cluster import cluster_gpu
from actors.runtime.slots import ActorSlot, ActorSpec
from uec.config.schema import Config
from uec.memory.placement import resolve_placement
from uec.tracking.tracker import Tracker

pytestmark = pytest.mark.e2e


class Asked:
    """In the place of an engine, a rank or another actor."""

    def __init__(self, *_: object) -> None:
        pass

    async def gpus(self) -> list[int]:
        return ray.get_gpu_ids()

    async def address(self) -> None:
        pass

    async def close(self) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]), prepend=os.pathsep)  # where Ray's workers find Asked
        ray.init(address="local", num_cpus=4, num_gpus=4, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def given(cfg: Config, folder: Path, specs: list[ActorSpec], kill: str | None = None) -> dict[str, list[int]]:
    """The GPUs of each actor; `kill`: one that dies before it is asked, and is replaced."""
    specs = [replace(spec, actor=Asked) for spec in specs]
    supervisor = supervise(cfg, specs, folder, Tracker([]), namespace=f"{folder.name}-{len(specs)}-{specs[0].name}")
    found: dict[str, list[int]] = {}

    async def ask(slot: ActorSlot, actor: Any, replaces: bool = False) -> None:
        found[slot.name] = await actor.gpus.remote()

    async def run() -> None:
        supervisor._begin = ask  # type: ignore[method-assign]
        await supervisor.start([])
        for slot in supervisor.slots:
            if slot.name == kill:
                found.pop(kill)
                await supervisor.revive(slot, slot.handle, RuntimeError("for the test"))
        await supervisor.stop()

    asyncio.run(run())
    return found


@pytest.fixture
def four_pairs(make_config: Callable[..., Config]) -> Config:
    shares = ("rollout.cpus=0.5", "learner.cpus=0.25", "reward.cpus=0.1")
    return make_config("cluster.placement=colocated", "rollout.engines=4", "learner.ranks=4", "learner.zero_stage=2", *shares)


def all_free() -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if ray.available_resources().get("GPU") == 4:
            return True
        time.sleep(0.1)
    return False


def test_colocated_each_engine_shares_a_gpu_with_the_rank_of_its_number(four_pairs: Config, tmp_path: Path) -> None:
    found = given(four_pairs, tmp_path, training_actors(four_pairs, "cuda"))
    engines = [found[f"rollout-{i}"] for i in range(4)]
    assert engines == [found[f"learner-{i}"] for i in range(4)]
    assert sorted(engines) == [[0], [1], [2], [3]]
    assert found["replay"] == []
    assert all_free()


@pytest.mark.long
def test_an_engine_that_is_replaced_comes_back_to_its_ranks_gpu(four_pairs: Config, tmp_path: Path) -> None:
    found = given(four_pairs, tmp_path, training_actors(four_pairs, "cuda"), kill="rollout-2")
    assert found["rollout-2"] == found["learner-2"]
    assert all_free()


@pytest.mark.long
def test_an_evaluations_engines_and_later_its_learners_have_separate_gpus(four_pairs: Config, tmp_path: Path) -> None:
    for actors, name in ((sampling_actors, "rollout"), (entropy_actors, "learner")):
        found = given(four_pairs, tmp_path, actors(four_pairs, "cuda"))
        assert sorted(found[f"{name}-{i}"] for i in range(4)) == [[0], [1], [2], [3]]
        assert all_free()


def test_on_one_gpu_the_default_run_shares_it_between_engine_and_learner(make_config: Callable[..., Config], tmp_path: Path) -> None:
    cfg = make_config()
    gpu = cluster_gpu()
    assert gpu is None, "Ray's bookkeeping has GPUs here, and CUDA has none"
    resolve_placement(cfg, 1.0, gpu)
    found = given(cfg, tmp_path, training_actors(cfg, "cuda"))
    assert len(found["rollout-0"]) == 1 and found["rollout-0"] == found["learner-0"]
    assert all_free()


@pytest.mark.long
def test_apart_a_tensor_parallel_engine_has_all_its_gpus(make_config: Callable[..., Config], tmp_path: Path) -> None:
    cfg = make_config("rollout.tensor_parallel=2", "learner.ranks=2", "learner.zero_stage=2", "rollout.cpus=0.5")
    found = given(cfg, tmp_path, training_actors(cfg, "cuda"))
    assert sorted(found["rollout-0"] + found["learner-0"] + found["learner-1"]) == [0, 1, 2, 3]
