"""Weights cannot lie: the probe compares every engine with the learner, and names the one that is off."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from actors.driver.sampling import Sampler
from actors.driver.weight_sync import WeightSync, gap, probe_sequences
from uec.algorithm.exploration import ExplorationSchedule
from uec.data.prompt_order import PromptOrder
from uec.errors import RunFailed
from uec.tracking.tracker import Tracker
from uec.types import Kind, Prompt, TrainingSample, WeightUpdate


@dataclass
class Name:
    name: str


class NoImages:
    async def references(self, prompts: object) -> list[object]:
        return []


class NoTurns:
    """Stands in for DeviceTurns where nothing is shared."""

    of_engines, weights_lost = True, False

    async def to_sync(self) -> None: ...

    async def to_engines(self) -> None: ...

    async def to_learners(self) -> None: ...


@dataclass
class Answers:
    """Stands in for a Supervisor: what each actor's `logprobs` answers."""

    logprobs: dict[str, list[np.ndarray]]
    learners: list[Name] = field(default_factory=lambda: [Name("learner-0")])
    images: NoImages = field(default_factory=NoImages)
    turns: NoTurns = field(default_factory=NoTurns)
    engines: list[Name] = field(default_factory=lambda: [Name("rollout-0"), Name("rollout-1")])
    update: WeightUpdate | None = None
    difficulty: Name = field(default_factory=lambda: Name("difficulty"))
    tracker: Tracker = field(default_factory=lambda: Tracker([]))

    async def call(self, slot: Name, method: str, *args: object) -> object:
        assert method == "logprobs"
        found = self.logprobs[slot.name]
        return (found, found) if slot.name.startswith("learner") else found


def verify(make_config, **logprobs: list[float]) -> float:
    prompts = [Prompt(i, "", np.arange(3, dtype=np.int32), "", {}) for i in range(2)]
    answers = Answers({name.replace("_", "-"): [np.array(values)] for name, values in logprobs.items()})
    return asyncio.run(WeightSync(make_config(), answers, prompts, tolerance=1e-3, version=7).verify())


def test_engines_that_agree_pass_and_the_largest_gap_is_reported(make_config):
    found = verify(make_config, learner_0=[-1.0, -2.0], rollout_0=[-1.0, -2.0], rollout_1=[-1.0, -2.0004])
    assert found == pytest.approx(4e-4)


def test_the_engine_with_a_stale_tensor_is_named_with_the_version_and_the_gap(make_config):
    with pytest.raises(RunFailed, match=r"rollout-1 does not hold the learner's weights: after version 7 .* off by 0\.035 nats"):
        verify(make_config, learner_0=[-1.0, -2.0], rollout_0=[-1.0, -2.0], rollout_1=[-1.0, -2.035])


def test_a_log_probability_that_is_no_number_does_not_pass(make_config):
    assert gap([np.array([-1.0])], [np.array([np.nan])]) == float("inf")
    with pytest.raises(RunFailed, match="rollout-0"):
        verify(make_config, learner_0=[-1.0, -2.0], rollout_0=[-1.0, np.nan], rollout_1=[-1.0, -2.0])


def test_a_probe_is_made_of_prompts_and_fits_into_a_short_response():
    prompts = [Prompt(i, "", np.full(10, i, np.int32), "", {}) for i in range(3)]
    pairs = probe_sequences(prompts, max_response=4)
    assert [(one.prompt_tokens.tolist(), one.tokens.tolist()) for one in pairs] == [([0] * 10, [1] * 4), ([1] * 10, [2] * 4)]
    [one] = probe_sequences(prompts[:1], max_response=99)
    assert one.prompt_tokens.tolist() == one.tokens.tolist() == [0] * 10


def test_half_of_a_probe_has_images_and_no_response_holds_an_image_token():
    def prompt(index: int, with_image: bool) -> Prompt:
        tokens = np.array([1, 6, 7, 9, 9, 8, 8, 2] if with_image else [1, 2, 3], np.int32)  # 9: image tokens, framed by 6 to 8
        return Prompt(index, "", tokens, "", {}, ("a.png",), ((3, 5),)) if with_image else Prompt(index, "", tokens, "", {})

    probe = probe_sequences([prompt(i, i % 2 == 0) for i in range(40)], max_response=9)
    assert len(probe) == 8
    assert [one.prompt % 2 for one in probe] == [0] * 4 + [1] * 4
    assert all(one.prompt_tokens.tolist() == [1, 6, 7, 9, 9, 8, 8, 2] for one in probe[:4])
    assert [one.tokens.tolist() for one in probe] == [[1, 2]] * 3 + [[1, 2, 3]] * 5


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
    weights = WeightSync(cfg, supervisor, prompts, tolerance=1e-3, version=7)
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
