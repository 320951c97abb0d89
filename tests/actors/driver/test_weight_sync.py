"""Every version reaches every engine, and a response of old weights is not trained on."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from actors.driver.sampling import Sampler
from actors.driver.weight_sync import WeightSync
from tests.support.answers import Answers
from uec.algorithm.exploration import ExplorationSchedule
from uec.data.prompt_order import PromptOrder
from uec.errors import RunFailed
from uec.models.logprob_gap import Tolerance
from uec.types import Kind, Prompt, TrainingSample, WeightUpdate


class Remote:
    """Stands in for an engine's actor: an engine that missed version 7."""

    def __init__(self, name: str, also: Sequence[int] = ()) -> None:
        self.name, self.version, self.given, self.also = name, 6, 0, also
        self.handle = SimpleNamespace(update_weights=SimpleNamespace(remote=self._update))

    async def _update(self, update: WeightUpdate) -> None:
        self.given += 1
        self.version = update.version

    async def sample(self, prompt: int, n: int, temperature: float, kind: Kind) -> list[TrainingSample]:
        """One response by the engine's version, and one by each of `also`."""
        return [TrainingSample(prompt, 0, 1, 1, kind=kind, version=version) for version in (self.version, *self.also)]


def sampler(cfg, *engines: Remote) -> Sampler:
    """Samples by the first engine; version 7 is current."""
    update = WeightUpdate(7, "shm", [], [], [], 0)
    prompts = [Prompt(i, "", np.arange(3, dtype=np.int32), "", {}) for i in range(2)]
    supervisor = Answers({}, engines=list(engines), update=update)
    weights = WeightSync(cfg, supervisor, prompts, tolerance=Tolerance(1e-3, 1e-3), version=7)
    return Sampler(cfg, supervisor, engines[0], weights, ExplorationSchedule(1.0, 4), PromptOrder(2, 0, False))


async def group(made: Sampler) -> list[TrainingSample]:
    return await made.group(5, [2], 1.0, Kind.REGULAR, "right")


def test_a_stale_group_is_refused_the_weights_are_sent_again_and_it_is_sampled_again(make_config):
    deaf, other = Remote("rollout-0", also=[7]), Remote("rollout-1")

    async def main() -> list[list[TrainingSample]]:
        made = sampler(make_config(), deaf, other)
        return await asyncio.gather(*(group(made) for _ in range(3)))

    groups = asyncio.run(main())
    assert [[sample.version for sample in one] for one in groups] == [[7, 7]] * 3
    assert (deaf.given, other.given) == (1, 1)  # once for all three


def test_a_group_within_max_staleness_is_taken_and_one_beyond_is_not(make_config):
    for k, given in ((0, 1), (1, 0)):
        deaf = Remote("rollout-0")
        asyncio.run(group(sampler(make_config(f"train.max_staleness={k}"), deaf)))
        assert deaf.given == given


def test_a_prompt_that_is_always_answered_with_old_weights_ends_the_run_with_both_versions(make_config):
    with pytest.raises(RunFailed, match="prompt 5 was answered 3 times with old weights, version 3, current is 7"):
        asyncio.run(group(sampler(make_config(), Remote("rollout-0", also=[3]))))
