"""The round trip of `uec doctor` on real actors: green, and red once an engine keeps its old weights."""

import asyncio
import sys
from dataclasses import replace

import pytest
import ray

from actors.driver.actor_specs import supervise, training_actors
from actors.programs.doctor import RoundTrip, handful, some
from actors.workers.rollout import RolloutActor
from tests.support.heard import Heard
from uec.data.dataset import Dataset
from uec.data.prompts import load_dataset
from uec.doctor.check import Status
from uec.models.pretrained import load_tokenizer
from uec.system.platform import detect
from uec.tracking.tracker import Tracker
from uec.types import Prompt, WeightUpdate

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import a test module


class DeafEngine(RolloutActor):
    """The fault that is injected: after `go_deaf` it says that it took a version, and keeps its old weights."""

    deaf = False

    async def go_deaf(self) -> None:
        self.deaf = True

    async def update_weights(self, update: WeightUpdate) -> None:
        if not self.deaf:
            return await super().update_weights(update)
        self.version = update.version
        await self._engine._core.renew(update.version)


@pytest.mark.e2e
def test_engines_follow_and_one_that_keeps_its_old_weights_turns_the_line_red(cluster, make_config, project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    cfg = handful(make_config())
    platform = detect(cfg)
    prompts = some(load_dataset(cfg, load_tokenizer(cfg.model), None)).train
    supervisor = supervise(cfg, training_actors(cfg, platform.device), tmp_path / "logs", Tracker([]))
    for engine in supervisor.engines:
        engine.spec = replace(engine.spec, actor=DeafEngine)
    heard = Heard()

    async def main() -> tuple[bool, bool]:
        try:
            await supervisor.start(prompts)
            trip = RoundTrip(cfg, platform, supervisor, prompts, heard)
            well = await trip.run()
            await supervisor.engines[0].handle.go_deaf.remote()  # type: ignore[union-attr]
            return well, await trip.run()
        finally:
            await supervisor.stop()

    assert asyncio.run(main()) == (True, False)
    lines = [(check.name, check.status) for check in heard.checks]
    stages = [(name, Status.OK) for name in ("agreement", "generation", "logprobs", "update", "weight sync")]
    assert lines == [*stages, *stages[:3], ("update", Status.FAIL)]
    assert "checksum" in heard.checks[4].found
    assert "rollout-0 does not hold the learner's weights" in heard.checks[-1].found
    assert str(tmp_path / "logs") in heard.checks[-1].fix


def test_the_round_trips_config_is_short_and_its_update_large(make_config):
    cfg = make_config("rollout.n=32", "rollout.max_tokens=4096", "rollout.top_p=0.9", "learner.lr=1e-6", "learner.warmup_steps=10")
    few = handful(cfg)
    assert (few.rollout.n, few.rollout.max_tokens, few.rollout.top_p) == (8, 64, 1.0)
    assert (few.learner.lr, few.learner.warmup_steps) == (1e-3, 0)
    assert (cfg.rollout.n, cfg.learner.lr) == (32, 1e-6)  # the config given stays


def test_prompts_with_and_without_images_are_chosen_with_only_their_images():
    import numpy as np

    prompts = [Prompt(i, "", np.zeros(3, np.int32), "", {}, (f"{i}.png",) if i % 2 else ()) for i in range(40)]
    few = some(Dataset(prompts, prompts[:3], 0, 0, embedded={f"{i}.png": bytes([i]) for i in range(40)}))
    assert [prompt.index for prompt in few.train] == [*range(1, 17, 2), *range(0, 18, 2)]
    assert set(few.embedded) == {f"{i}.png" for i in range(1, 17, 2)} and few.eval == []
