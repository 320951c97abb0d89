"""`uec bench scale`: simulated actors keep time as real ones, and a very small run of the bench."""

import asyncio
import math
import time
from pathlib import Path

import pytest

from bench.simulated_actors import BUSY_S, Pace, SimulatedGrader, SimulatedLearner
from bench.simulated_engine import SimulatedEngine, Skew, response_lengths
from uec.types import Kind, Prompt, Request, Trajectory, UpdatePlan, WeightUpdate

PLACES_ASKED = 32 * 8 + 11 * 16
"""Responses that a step requests from an engine, on average."""


def request(group: int, n: int, prompt: int = 0, kind: Kind = Kind.REGULAR) -> Request:
    return Request(group, prompt, n, 1.0, kind)


def answers(engine: SimulatedEngine, *messages: list[Request]) -> list[tuple[float, Trajectory]]:
    """Return each response with its time of arrival; messages are sent one right after the other."""
    begin = time.perf_counter()

    async def follow(requests: list[Request]) -> list[tuple[float, Trajectory]]:
        return [(time.perf_counter() - begin, trajectory) async for batch in engine.generate(requests) for trajectory in batch]

    async def main() -> list[tuple[float, Trajectory]]:
        await engine.start([Prompt(i, "", [1, 2], "", {}) for i in range(4)])
        return [answer for found in await asyncio.gather(*map(follow, messages)) for answer in found]

    return asyncio.run(main())


def test_a_full_engine_starts_the_next_response_when_a_place_is_free(make_config):
    skew = Skew(step_s=0.002, median=20.0, sigma=0.0)  # 40 ms each
    engine = SimulatedEngine(make_config("rollout.max_num_seqs=4", "rollout.max_tokens=64"), 0, skew)
    came = sorted(seconds for seconds, _ in answers(engine, [request(0, 4)], [request(1, 2)]))
    assert all(0.04 <= seconds < 0.08 for seconds in came[:4])
    assert all(0.08 <= seconds < 0.12 for seconds in came[4:])


def test_responses_that_end_close_together_come_in_one_batch_and_none_waits_at_the_end(make_config):
    engine = SimulatedEngine(make_config("rollout.max_num_seqs=64", "rollout.max_tokens=64"), 0, Skew(0.0, 20.0, 1.0))

    async def batches() -> list[list[Trajectory]]:
        await engine.start([Prompt(0, "", [1], "", {})])
        return [batch async for batch in engine.generate([request(0, 32)])]

    assert [len(batch) for batch in asyncio.run(batches())] == [32]


def test_a_trajectory_carries_the_version_that_the_engine_had_taken(make_config):
    engine = SimulatedEngine(make_config(), 0, Skew(0.0, 5.0, 0.0))
    asyncio.run(engine.update_weights(WeightUpdate(3, "none", [], [], [], 0)))
    assert {trajectory.version for _, trajectory in answers(engine, [request(0, 2)])} == {3}


def test_a_difficult_prompt_is_solved_by_exploration_only(make_config):
    cfg = make_config("rollout.max_tokens=64")
    engine = SimulatedEngine(cfg, 0, Skew(0.0, 5.0, 0.0))
    trajectories = [
        trajectory for _, trajectory in answers(engine, [request(0, 8, 3), request(1, 8, 1), request(2, 16, 3, Kind.EXPLORATION)])
    ]
    samples = asyncio.run(SimulatedGrader(cfg, 0).grade(trajectories))
    right = {group: sum(sample.reward for sample in samples if sample.group == group) for group in (0, 1, 2)}
    assert right == {0: 0, 1: 4, 2: 8}


def test_a_learner_takes_as_long_as_its_tokens_and_returns_old_logprobs_of_the_admitted(make_config):
    cfg = make_config("rollout.max_tokens=64")
    trajectories = [trajectory for _, trajectory in answers(SimulatedEngine(cfg, 0, Skew(0.0, 50.0, 0.0)), [request(0, 4)])]
    plan = UpdatePlan([], [], [], [], places=[(0, slot) for slot in range(4)], admitted=frozenset([2]))
    learner = SimulatedLearner(cfg, 0)
    learner.pace(Pace(Skew(0.0, 0.0, 0.0), token_s=0.0005))
    begin = time.perf_counter()
    metrics, old = learner.update(plan, trajectories)
    assert time.perf_counter() - begin >= metrics[BUSY_S] == pytest.approx(0.1)
    assert [(sample, len(logprobs)) for sample, logprobs in old.items()] == [(2, 50)]


# --- the bench


def test_the_bound_on_a_step_is_its_longest_chain_or_all_its_tokens_on_all_places():
    from bench import scale

    varied = scale.Size(engines=1, skewed=Pace(Skew(0.001, 100.0, 0.5), 0.0))
    chain = max(response_lengths(request(0, 8), 4096, varied.skewed.skew)) + max(
        response_lengths(request(0, 16, kind=Kind.EXPLORATION), 4096, varied.skewed.skew)
    )
    assert scale.slowest_engine_s([0], 16, varied) == pytest.approx(0.001 * chain)  # prompt 0 is difficult
    alike = scale.Size(engines=1, skewed=Pace(Skew(0.001, 100.0, 0.0), 0.0))
    # A third of 300 explored: 2400 and 1600 responses of 100 tokens, 256 at once.
    assert scale.slowest_engine_s(list(range(300)), 16, alike) == pytest.approx(0.001 * 4000 * 100 / 256)


@pytest.mark.e2e
def test_the_scale_bench_counts_every_group_and_finds_its_bounds_very_small(tmp_path: Path):
    from bench import scale

    few = {"engines": 2, "few": 1, "hosts": 1, "ranks": 2, "graders": 1, "pairs": 1, "ahead_steps": 1, "stream_pairs": 1}
    size = scale.Size(**few, skewed=Pace(Skew(1e-4, 400.0, 0.6), 1e-6))
    metrics = scale.measure(tmp_path, size)
    rate, growth, memory, ahead, share, outstanding, groups, streamed = metrics
    assert all(math.isfinite(metric.value) for metric in metrics)
    assert "2 engines, 85 groups a step" in rate.note  # of prompts 64 to 127 every third is explored
    assert growth.reference.pairs == 1 and growth.value > 0
    assert ahead.value >= 1 and 0 < share.value < 1
    assert 8 <= outstanding.value <= 2 * PLACES_ASKED
    assert 0 < groups.value <= 64
    assert streamed.value >= scale.slowest_engine_s(list(range(64)), 16, size)
