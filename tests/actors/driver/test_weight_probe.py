"""Weights cannot lie: the probe compares every engine with the learner, and says which check failed for which engine."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from actors.driver.weight_probe import WeightProbe, probe_sequences
from tests.support.answers import Answers, answers
from uec.errors import RunFailed
from uec.models.logprob_gap import Gap, Tolerance, tolerance
from uec.types import Prompt, WeightUpdate

SINGLE = Tolerance(1e-3, 1e-3)
HALF = Tolerance(0.1, 2.0, half_precision=True)
PROMPTS = [Prompt(i, "", np.arange(3, dtype=np.int32), "", {}) for i in range(2)]


def probe(make_config, actors: Answers, limits: Tolerance = SINGLE) -> WeightProbe:
    return WeightProbe(make_config(), actors, PROMPTS, limits)


def check(made: WeightProbe, version: int) -> Gap:
    async def run() -> Gap:
        return await made.verify(version, await made.expect())

    return asyncio.run(run())


def verify(make_config, limits: Tolerance = SINGLE, **logprobs: list[float]) -> Gap:
    return check(probe(make_config, answers(**logprobs), limits), 7)


def test_engines_that_agree_pass_and_the_gaps_of_the_one_furthest_off_are_reported(make_config):
    found = verify(make_config, learner_0=[-1.0, -2.0], rollout_0=[-1.0, -2.0], rollout_1=[-1.0, -2.0004])
    assert (found.mean, found.largest) == (pytest.approx(2e-4), pytest.approx(4e-4))


def test_the_engine_with_a_stale_tensor_is_named_with_the_version_and_the_gap(make_config):
    stale = r"gap: rollout-1 does not hold the learner's weights: after version 7 .* off by 0\.0175 nats on average"
    with pytest.raises(RunFailed, match=stale):
        verify(make_config, learner_0=[-1.0, -2.0], rollout_0=[-1.0, -2.0], rollout_1=[-1.0, -2.035])


def test_in_half_precision_single_tokens_may_be_far_off_and_the_mean_may_not(make_config):
    expected = [-1.0] * 10
    rounded = [-1.5] + [-1.02] * 9  # mean .068, largest .5
    found = verify(make_config, HALF, learner_0=expected, rollout_0=expected, rollout_1=rounded)
    assert (found.mean, found.largest) == (pytest.approx(0.068), pytest.approx(0.5))
    with pytest.raises(RunFailed, match=r"off by 0\.12 nats on average \(weights.tolerance=0.1\)"):
        verify(make_config, HALF, learner_0=expected, rollout_0=expected, rollout_1=[-1.12] * 10)


def test_one_token_beyond_the_loose_bound_names_that_bound(make_config):
    expected = [-1.0] * 100
    with pytest.raises(RunFailed, match=r"rollout-0 .* one token .* off by 3 nats \(weights.max_gap=2\), by 0.03 on average"):
        verify(make_config, HALF, learner_0=expected, rollout_0=[-4.0] + expected[1:], rollout_1=expected)


def test_a_log_probability_that_is_no_number_does_not_pass(make_config):
    assert Gap.of([np.array([-1.0])], [np.array([np.nan])]) == Gap(float("inf"), float("inf"))
    with pytest.raises(RunFailed, match="rollout-0"):
        verify(make_config, learner_0=[-1.0, -2.0], rollout_0=[-1.0, np.nan], rollout_1=[-1.0, -2.0])


def test_the_mean_counts_tokens_and_not_sequences():
    assert Gap.of([np.array([0.0]), np.zeros(3)], [np.array([1.0]), np.zeros(3)]) == Gap(0.25, 1.0)


@pytest.mark.parametrize(
    ("dtype", "overrides", "expected"),
    [
        ("float32", [], Tolerance(1e-3, 1e-3)),
        ("float32", ["weights.tolerance=0.01"], Tolerance(0.01, 0.01)),
        ("bfloat16", [], Tolerance(0.1, 2.0, True)),
        ("bfloat16", ["weights.tolerance=0.05"], Tolerance(0.05, 1.0, True)),
        ("bfloat16", ["weights.max_gap=0.7"], Tolerance(0.1, 0.7, True)),
    ],
)
def test_the_tolerances_follow_the_number_format(make_config, dtype, overrides, expected):
    found = tolerance(make_config(*overrides), SimpleNamespace(dtype=dtype))
    assert found == Tolerance(pytest.approx(expected.mean), pytest.approx(expected.largest), expected.half_precision)


def agreeing() -> Answers:
    return answers(learner_0=[-1.0], rollout_0=[-1.0], rollout_1=[-1.0])


def test_engines_with_different_checksums_are_named_though_their_log_probabilities_agree(make_config):
    actors = agreeing()
    actors.checksums = {"rollout-0": "aaaa", "rollout-1": "bbbb"}
    with pytest.raises(RunFailed, match="checksum: .*different weights after version 7: rollout-0 aaaa, rollout-1 bbbb"):
        check(probe(make_config, actors), 7)


@pytest.mark.parametrize("backend", ["shm", "nccl"])
def test_engines_that_keep_their_checksum_while_the_learners_weights_change_hold_old_weights(make_config, backend):
    actors = agreeing()
    made = probe(make_config, actors)

    def learner_has(digest: str) -> None:
        actors.update = WeightUpdate(7, backend, [], [], [], 0, digest=digest if backend == "shm" else "")
        actors.digest = digest if backend == "nccl" else "is not asked"

    for digest, checksum in (("1", "a"), ("1", "a"), ("2", "b")):  # not learned from, then learned and followed
        learner_has(digest)
        actors.checksums = {"rollout-0": checksum, "rollout-1": checksum}
        check(made, 7)
    learner_has("3")
    with pytest.raises(RunFailed, match="checksum: the engines hold old weights: .* version 8 left"):
        check(made, 8)


def test_engines_that_cannot_read_all_their_weights_are_judged_by_the_gap_alone(make_config):
    actors = agreeing()
    actors.checksums = {"rollout-0": "aaaa"}
    assert check(probe(make_config, actors), 7) == Gap(0.0, 0.0)


class Followed:
    """Engines whose log-probabilities are -2 times a factor: that of the last update which they follow."""

    def __init__(self, follows: tuple[str, ...] = ("rollout-0", "rollout-1"), keeps: float = 0.0, rounding: float = 0.0) -> None:
        self.actors = agreeing()
        self.actors.call = self.call  # type: ignore[method-assign]
        self.follows, self.keeps, self.rounding = follows, keeps, rounding
        self.factor, self.published, self.calls = 1.0, [], 0

    async def publish(self, scale: float) -> None:
        self.published.append(scale)
        self.factor = scale if scale != 1 else 1 + self.keeps

    async def call(self, slot, method: str, *args: object) -> object:
        factor = self.factor if slot.name in self.follows else 1.0
        if method == "checksum":
            return f"{factor}"
        self.calls += 1
        return [np.full(4, -2.0 * factor + self.rounding * (self.calls % 3))]

    def run(self, make_config) -> None:
        asyncio.run(probe(make_config, self.actors, HALF).canary(5, self.publish))


def test_a_canary_publishes_changed_weights_and_then_the_right_ones(make_config):
    followed = Followed(rounding=0.01)
    followed.run(make_config)
    assert followed.published == [1.1, 1.0]


def test_the_canary_names_the_engine_that_does_not_follow_though_its_numbers_scatter(make_config):
    for rounding in (0.0, 0.02):
        with pytest.raises(RunFailed, match="canary: rollout-1 does not follow a weight update: weights times 1.1 moved"):
            Followed(follows=("rollout-0",), rounding=rounding).run(make_config)


def test_the_canary_names_an_engine_that_keeps_a_trace_of_the_changed_weights(make_config):
    with pytest.raises(RunFailed, match="canary: rollout-0 does not come back to the right weights .version 5.: .* was 1.0 and is 1.001"):
        Followed(keeps=1e-3).run(make_config)


def test_a_canary_runs_in_half_precision_unless_the_config_says_otherwise(make_config):
    for choice, limits, expected in (
        ("auto", SINGLE, False), ("auto", HALF, True), ("always", SINGLE, True), ("never", HALF, False)
    ):  # fmt: skip
        assert WeightProbe(make_config(f"weights.canary={choice}"), agreeing(), PROMPTS, limits).has_canary is expected


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
