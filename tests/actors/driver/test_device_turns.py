"""Engines and learners of shared GPUs take turns: the order of the calls, recorded by stand-ins for the actors."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from actors.driver.device_turns import DeviceTurns
from actors.driver.learner_group import LearnerGroup
from actors.driver.weight_sync import WeightSync
from actors.engines.vllm.engine import VllmEngine
from actors.engines.vllm.job import engine_arguments
from tests.support.answers import NoImages
from uec.config.schema import Config
from uec.models.logprob_gap import Tolerance
from uec.system.platform import detect
from uec.types import Prompt, WeightUpdate

COLOCATED = ("cluster.placement=colocated", "model.path=assets/countdown")


@dataclass
class Recorder:
    """Stands in for a Supervisor of one engine and one rank. `calls`: every call of an actor, in order."""

    cfg: Config
    calls: list[str] = field(default_factory=list)
    images: NoImages = field(default_factory=NoImages)
    update: WeightUpdate | None = None
    weightless: set[object] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.engines = [SimpleNamespace(name="engine", handle=SimpleNamespace(update_weights=SimpleNamespace(remote=self._load)))]
        self.learners = [SimpleNamespace(name="learner")]
        self.turns = DeviceTurns(self.cfg, self)

    async def call(self, slot: SimpleNamespace, method: str, *args: object, timeout_s: float | None = None) -> object:
        self.calls.append(" ".join([slot.name, method, *(arg for arg in args if isinstance(arg, str))]))
        return WeightUpdate(0, "shm", [], [], [], 0, digest="d") if method == "publish" else 0.0

    async def _load(self, update: WeightUpdate) -> None:
        self.calls.append("engine update_weights")

    def taken(self) -> list[str]:
        """Return the calls since the last time."""
        found, self.calls = self.calls, []
        return found


def parts(cfg: Config) -> tuple[Recorder, WeightSync, LearnerGroup]:
    recorder = Recorder(cfg)
    prompts = [Prompt(i, "", np.arange(3, dtype=np.int32), "", {}) for i in range(2)]
    return recorder, WeightSync(cfg, recorder, prompts, Tolerance(1.0, 1.0)), LearnerGroup(cfg, recorder)


SYNC = ["engine wake weights", "learner publish", "engine update_weights", "learner offload", "engine wake kv_cache"]


@pytest.mark.parametrize("level", [1, 2])
def test_weights_wake_then_load_then_the_learner_offloads_then_the_kv_cache_wakes(make_config, level):
    recorder, weights, learners = parts(make_config(*COLOCATED, f"rollout.sleep={level}", "learner.offload=optimizer"))

    async def run() -> None:
        await weights.start()
        assert recorder.taken() == SYNC  # engines start asleep, and the learners have the GPUs
        await weights.give_back()
        assert recorder.taken() == []  # it is the engines' turn already
        assert await learners.entropy([]) == 0.0
        assert recorder.taken() == ["engine sleep", "learner reload", "learner entropy"]
        await learners.entropy([])
        assert recorder.taken() == ["learner entropy"]

    asyncio.run(run())


def test_an_engine_that_dropped_its_weights_gets_them_again_and_one_that_kept_them_does_not(make_config):
    async def after_an_evaluation(level: int) -> list[str]:
        recorder, weights, learners = parts(make_config(*COLOCATED, f"rollout.sleep={level}", "learner.offload=all"))
        await weights.start()
        await learners.entropy([])
        recorder.taken()
        await weights.give_back()
        assert recorder.turns.of_engines and weights.version == 0
        return recorder.taken()

    assert asyncio.run(after_an_evaluation(2)) == SYNC
    assert asyncio.run(after_an_evaluation(1)) == ["engine wake weights", "learner offload", "engine wake kv_cache"]


def test_engines_without_sleep_stay_awake_and_a_learner_without_states_to_move_frees_its_cache(make_config):
    async def calls(*settings: str) -> list[str]:
        recorder, weights, learners = parts(make_config(*COLOCATED, *settings))
        await weights.start()
        await learners.entropy([])
        await weights.give_back()
        return recorder.taken()

    assert asyncio.run(calls("learner.offload=optimizer")) == [
        "learner publish", "engine update_weights", "learner offload", "learner reload", "learner entropy", "learner offload",
    ]  # fmt: skip
    assert asyncio.run(calls("rollout.sleep=1")) == [
        "engine wake weights", "learner publish", "engine update_weights", "learner offload", "engine wake kv_cache",
        "engine sleep", "learner reload", "learner entropy", "engine wake weights", "learner offload", "engine wake kv_cache",
    ]  # fmt: skip
    assert asyncio.run(calls()) == ["learner publish", "engine update_weights", "learner entropy"]


def test_the_engine_passes_vllm_its_level_and_one_tag_at_a_time(make_config):
    said: list[tuple[str, object]] = []

    class Core:
        async def sleep(self, level: int) -> None:
            said.append(("sleep", level))

        async def wake(self, tag: str) -> None:
            said.append(("wake", tag))

    async def run(cfg: Config, sleeps: bool) -> None:
        engine = VllmEngine(cfg, 0, "rollout-0")
        engine._core, engine._sleeps = Core(), sleeps
        await engine.sleep()
        await engine.wake("weights")
        await engine.wake("kv_cache")

    cfg = make_config(*COLOCATED, "rollout.sleep=2")
    asyncio.run(run(cfg, False))  # as on CPU
    assert said == []
    asyncio.run(run(cfg, True))
    assert said == [("sleep", 2), ("wake", "weights"), ("wake", "kv_cache")]


def test_vllm_allocates_for_sleep_only_where_rollout_sleep_asks_for_it(make_config):
    def arguments(device: str, *settings: str) -> dict[str, object]:
        cfg = make_config(*COLOCATED, *settings)
        return engine_arguments(cfg, detect(cfg, device), 0, "model", 4096)

    assert arguments("cuda", "rollout.sleep=1")["enable_sleep_mode"] is True
    assert "enable_sleep_mode" not in arguments("cuda")
    assert "enable_sleep_mode" not in arguments("cpu", "rollout.sleep=1")
