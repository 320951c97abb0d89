"""The order in which the supervisor starts actors, with stand-ins for Ray and for the actors' start."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from actors.driver.actor_specs import supervise, training_actors
from actors.runtime import supervisor as module
from actors.runtime.placement import Pairs
from actors.runtime.slots import ActorSlot
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.tracking.tracker import Tracker


class Handle:
    """Stands in for an actor's handle."""

    address = SimpleNamespace(remote=lambda: None)


def events(cfg: Config, folder: Path, monkeypatch: pytest.MonkeyPatch, dies: str | None = None) -> list[str]:
    """Return the begin and the end of each actor's start, in their order."""
    supervisor = supervise(cfg, training_actors(cfg, "cuda"), folder, Tracker([]))
    seen: list[str] = []

    async def begin(slot: ActorSlot, actor: object, replaces: bool = False) -> None:
        seen.append(f"begin {slot.name}")
        await asyncio.sleep(0.01 if slot in supervisor.engines else 0)
        if slot.name == dies:
            raise RuntimeError("no memory")
        seen.append(f"end {slot.name}")

    handle = Handle()
    monkeypatch.setattr(module.ray, "put", lambda value: value)
    monkeypatch.setattr(module, "_collect_less_garbage", lambda: None)
    monkeypatch.setattr(Pairs, "reserve", lambda pairs: None)
    monkeypatch.setattr(supervisor, "_create", lambda slot, name: handle)
    monkeypatch.setattr(supervisor, "_begin", begin)
    try:
        asyncio.run(supervisor.start([]))
    except RunFailed as error:
        seen.append(str(error))
    return seen


@pytest.fixture
def pairs(make_config: Callable[..., Config]) -> Config:
    return make_config("cluster.placement=colocated", "rollout.engines=2", "learner.ranks=2")


def test_on_shared_gpus_learners_begin_after_every_engine(pairs: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = events(pairs, tmp_path, monkeypatch)
    last = max(seen.index("end rollout-0"), seen.index("end rollout-1"))
    assert last < min(seen.index("begin learner-0"), seen.index("begin learner-1"))
    assert seen.index("begin reward-0") < seen.index("end rollout-0"), "what needs no GPU does not wait"


def test_on_separate_gpus_all_begin_at_once(make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = events(make_config("cluster.placement=separate"), tmp_path, monkeypatch)
    assert seen.index("begin learner-0") < seen.index("end rollout-0")


def test_if_an_engine_fails_no_learner_begins(pairs: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = events(pairs, tmp_path, monkeypatch, dies="rollout-1")
    assert "rollout-1 failed: no memory" in seen[-1]
    assert not any(one.startswith("begin learner") for one in seen)
