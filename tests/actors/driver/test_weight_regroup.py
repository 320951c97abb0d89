"""An engine that dies under weights.backend=nccl: engines and learners meet anew, with gloo in place of NCCL."""

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from actors.driver import weight_sync
from actors.driver.weight_sync import WeightSync
from actors.engines.vllm import trainer_transfer
from actors.runtime.slots import ActorSpec, Role
from actors.runtime.supervisor import Supervisor
from actors.weights import manifest
from tests.support.answers import NoTurns
from tests.support.gloo_transfer import SHAPES, EngineHandle, GlooTrainer, LearnerHandle, dead, free_address
from uec.errors import RunFailed
from uec.models.logprob_gap import Tolerance
from uec.tracking.tracker import Tracker
from uec.types import Prompt


class Run:
    """Two engines and a learner, under the real Supervisor and WeightSync."""

    def __init__(self, cfg, logs: Path) -> None:
        engines = [ActorSpec(Role.ENGINE, f"rollout-{i}", EngineHandle, (cfg, i), 0) for i in range(2)]
        self.supervisor = Supervisor(cfg, [*engines, ActorSpec(Role.LEARNER, "learner-0", LearnerHandle, (cfg,), 0)], logs, Tracker([]))
        self.supervisor.turns = NoTurns()
        self.supervisor._create = lambda slot, name: slot.spec.actor(*slot.spec.args)
        for slot in self.supervisor.slots:
            slot.handle = self.supervisor._create(slot, slot.name)
        self.weights = WeightSync(cfg, self.supervisor, [Prompt(0, "", np.zeros(3, np.int32), "", {})], Tolerance(1e-3, 1e-3))

    @property
    def engines(self) -> list[EngineHandle]:
        return [slot.handle for slot in self.supervisor.engines]

    @property
    def learner(self) -> LearnerHandle:
        return self.supervisor.learners[0].handle

    async def sync(self) -> None:
        self.learner.learn()
        await self.weights._publish(step=1)

    def assert_all_hold(self, number: float, version: int) -> None:
        expected = {"a": [number] * 3, "b": [number] * 4}
        assert [(engine.core.held, engine.version) for engine in self.engines] == [(expected, version)] * 2
        self.learner.learner.publisher.wait()

    async def die(self, rank: int) -> None:
        """Kill an engine within its generation, as RolloutStream finds it."""
        slot = self.supervisor.engines[rank]
        slot.handle.core.killed = True
        await self.supervisor.revive(slot, slot.handle, dead())


@pytest.fixture
def run(make_config, tmp_path, monkeypatch) -> Run:
    from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

    monkeypatch.setattr(WeightTransferTrainerFactory, "trainer_init", lambda init, client, source: GlooTrainer(init, source))
    monkeypatch.setattr(trainer_transfer, "free_address", free_address)
    monkeypatch.setattr(manifest, "expected_parameters", lambda *_: SHAPES)
    monkeypatch.setattr(ray, "kill", lambda handle: None)
    monkeypatch.setattr(weight_sync, "GRACE_S", 0.5)
    return Run(make_config("rollout.engines=2", "weights.timeout_s=60"), tmp_path)


def test_an_engine_that_dies_between_updates_gets_its_weights_by_a_new_group(run):
    async def main() -> None:
        await run.weights.start()
        await run.sync()
        run.assert_all_hold(1.0, 1)
        survivor = run.engines[0]
        await run.die(1)
        run.assert_all_hold(1.0, 1)  # the new engine has them before it is asked for anything
        assert run.engines[0] is survivor and len(set(survivor.core.joined)) == 2  # two meetings, at different ports
        await run.sync()
        run.assert_all_hold(2.0, 2)
        assert [len(engine.core.joined) for engine in run.engines] == [2, 1]  # no third one

    asyncio.run(main())


def test_an_engine_whose_death_nobody_saw_is_replaced_before_the_next_update(run):
    async def main() -> None:
        await run.weights.start()
        run.engines[0].core.killed = True
        await run.sync()
        run.assert_all_hold(1.0, 1)
        assert [slot.restarts for slot in run.supervisor.engines] == [1, 0]

    asyncio.run(main())


def test_two_that_see_one_death_bring_the_weights_once(run):
    async def main() -> None:
        await run.weights.start()
        slot, failed = run.supervisor.engines[1], run.engines[1]
        await asyncio.gather(*(run.supervisor.revive(slot, failed, dead()) for _ in range(3)))
        run.assert_all_hold(0.0, 0)
        assert (slot.restarts, len(run.engines[0].core.joined)) == (1, 2)

    asyncio.run(main())


def test_weights_that_were_trained_meanwhile_reach_the_engines_as_the_next_version(run):
    async def main() -> None:
        await run.weights.start()
        run.learner.learn()  # an update that runs beside the rollouts
        await run.die(0)
        run.assert_all_hold(1.0, 1)
        assert run.weights.version == 1
        await run.sync()
        run.assert_all_hold(2.0, 2)

    asyncio.run(main())


def test_a_stale_engine_is_given_the_weights_with_all_others(run):
    async def main() -> None:
        await run.weights.start()
        for _ in range(2):
            await run.weights.repeat()
        run.assert_all_hold(0.0, 0)
        assert run.learner.learner.version == 0

    asyncio.run(main())


def test_an_engine_that_dies_within_an_update_and_one_that_waits_for_it_are_replaced(run):
    async def main() -> None:
        await run.weights.start()
        run.engines[1].core.dies_in_update, run.engines[0].core.waits_in_update = True, True
        await run.sync()
        run.assert_all_hold(1.0, 1)
        assert [slot.restarts for slot in run.supervisor.engines] == [1, 1]

    asyncio.run(main())


class Stuck:
    """A trainer whose broadcast ends only when it is shut down, as ncclCommAbort ends it."""

    def __init__(self, source) -> None:
        self.source, self.aborted = source, threading.Event()

    def send_weights(self) -> None:
        next(iter(self.source))
        self.aborted.wait()
        raise RuntimeError("aborted")

    def shutdown(self) -> None:
        self.aborted.set()


def test_a_broadcast_that_waits_for_a_dead_engine_is_ended_and_its_parameters_are_gathered_to_the_end(run, monkeypatch):
    from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

    monkeypatch.setattr(WeightTransferTrainerFactory, "trainer_init", lambda init, client, source: Stuck(source))
    publisher, gathered = run.learner.learner.publisher, []

    def parameters():
        for name, shape in SHAPES.items():
            gathered.append(name)
            yield name, torch.zeros(shape)

    first = publisher.publish(1, parameters())
    while not publisher._trainer:
        time.sleep(0.01)
    publisher.reset()
    assert gathered == list(SHAPES)  # other ranks of ZeRO-3 wait for this one in each
    second = publisher.publish(2, parameters())
    groups = [update.handles["connection"] for update in (first, second)]
    assert groups[0]["group"] != groups[1]["group"] and groups[0]["init"]["master_port"] != groups[1]["init"]["master_port"]
    publisher.reset()


def test_a_broadcast_that_cannot_be_ended_ends_the_run_with_the_cause(run, monkeypatch):
    from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

    meeting = threading.Event()
    monkeypatch.setattr(WeightTransferTrainerFactory, "trainer_init", lambda init, client, source: meeting.wait())
    publisher = run.learner.learner.publisher
    publisher.cfg.weights.timeout_s = 0.05
    publisher.publish(1, iter(()))
    with pytest.raises(RunFailed, match="its broadcast could not be ended"):
        publisher.reset()
    meeting.set()
