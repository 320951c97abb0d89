"""Weights cannot lie: the probe compares every engine with the learner, and names the one that is off."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest

from actors.exchange import WeightExchange, gap, probe_sequences
from uec.errors import RunFailed
from uec.types import Prompt


@dataclass
class Name:
    name: str


class NoImages:
    async def references(self, prompts: object) -> list[object]:
        return []


@dataclass
class Answers:
    """Stands in for a Supervisor: what each actor's `score` answers."""

    logprobs: dict[str, list[np.ndarray]]
    learners: list[Name] = field(default_factory=lambda: [Name("learner-0")])
    images: NoImages = field(default_factory=NoImages)
    engines: list[Name] = field(default_factory=lambda: [Name("rollout-0"), Name("rollout-1")])

    async def call(self, member: Name, method: str, *args: object) -> object:
        assert method == "score"
        found = self.logprobs[member.name]
        return (found, found) if member.name.startswith("learner") else found


def verify(make_config, **logprobs: list[float]) -> float:
    prompts = [Prompt(i, "", np.arange(3, dtype=np.int32), "", {}) for i in range(2)]
    answers = Answers({name.replace("_", "-"): [np.array(values)] for name, values in logprobs.items()})
    return asyncio.run(WeightExchange(make_config(), answers, prompts, tolerance=1e-3, version=7).verify())


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
    def prompt(index: int, pictured: bool) -> Prompt:
        tokens = np.array([1, 6, 7, 9, 9, 8, 8, 2] if pictured else [1, 2, 3], np.int32)  # 9: image tokens, framed by 6 to 8
        return Prompt(index, "", tokens, "", {}, ("a.png",), ((3, 5),)) if pictured else Prompt(index, "", tokens, "", {})

    probe = probe_sequences([prompt(i, i % 2 == 0) for i in range(40)], max_response=9)
    assert len(probe) == 8
    assert [one.prompt % 2 for one in probe] == [0] * 4 + [1] * 4
    assert all(one.prompt_tokens.tolist() == [1, 6, 7, 9, 9, 8, 8, 2] for one in probe[:4])
    assert [one.tokens.tolist() for one in probe] == [[1, 2]] * 3 + [[1, 2, 3]] * 5
