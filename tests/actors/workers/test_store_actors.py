"""ReplayActor: rows copied out of batches, old log-probabilities, and what a checkpoint brings back."""

from dataclasses import fields, replace

import numpy as np
import pytest

from actors.workers.replay import ReplayActor
from tests.support.examples import sample, trajectory
from uec.config.schema import Config, ReplayConfig
from uec.types import Kind, TrainingSample, Trajectory


def entering(batch: int, slot: int, advantage: float) -> TrainingSample:
    """A sample that enters the store, its response batch given by position."""
    return sample(1.0, advantage=advantage, slot=slot, batch=batch)


def config(**replay) -> Config:
    return Config(replay=ReplayConfig(**replay))


def batch(first: int, count: int, kind: Kind = Kind.REGULAR) -> list[Trajectory]:
    return [trajectory(i, length=2 + i % 4, kind=kind) for i in range(first, first + count)]


def assert_same(one: Trajectory, other: Trajectory) -> None:
    """Equal in every field, arrays bit for bit and of the same type."""
    for f in fields(Trajectory):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if isinstance(a, np.ndarray):
            assert b.dtype == a.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert type(a) is type(b) and a == b


def test_admitted_rows_come_from_their_response_batch_with_the_learners_log_probabilities() -> None:
    actor = ReplayActor(config(capacity=10))
    first, second = batch(0, 4), batch(20, 4, Kind.EXPLORATION)
    rank_0 = {3: np.full(2 + 1 % 4, -0.5, np.float32)}
    rank_1 = {0: np.full(2 + 22 % 4, -0.25, np.float32)}
    admitted = [entering(0, 1, 1.5), entering(1, 2, 4.2)]
    assert actor.admit(7, admitted, [(2, 3), (3, 0)], first, second, rank_0, rank_1) == 2
    records, rollouts = actor.draw(step=9, n=5)
    order = [r.advantage for r in records].index(1.5)
    assert records[order] == TrainingSample(
        slot=order, advantage=1.5, prompt=first[1].prompt, kind=Kind.REGULAR, group=first[1].group, index=first[1].index, admitted=7,
        prompt_tokens=4, response_tokens=3, truncated=first[1].truncated, version=first[1].version,
    )  # fmt: skip
    other = records[1 - order]
    assert other.kind == Kind.EXPLORATION and other.prompt_tokens + other.response_tokens == 3 + 22 % 3 + 2 + 22 % 4
    assert_same(rollouts[order], replace(first[1], old_logprobs=rank_0[3]))
    assert_same(rollouts[1 - order], replace(second[2], old_logprobs=rank_1[0]))


def test_recomputed_log_probabilities_are_left_out() -> None:
    actor = ReplayActor(config(logprobs="recomputed"))
    actor.admit(1, [entering(0, 0, 2.0)], [], batch(0, 1))
    assert actor.draw(1, 1)[1][0].old_logprobs is None


def test_stored_log_probabilities_that_are_missing_or_of_another_length_are_refused() -> None:
    actor = ReplayActor(config(logprobs="stored"))
    with pytest.raises(ValueError, match="needs the learner's old log-probabilities"):
        actor.admit(1, [entering(0, 0, 2.0)], [], batch(0, 1))
    with pytest.raises(ValueError, match="9 old log-probabilities for 2 tokens"):
        actor.admit(1, [entering(0, 0, 2.0)], [(1, 5)], batch(0, 1), {5: np.zeros(9, np.float32)})


def test_a_stored_row_does_not_keep_its_response_batch_alive() -> None:
    actor = ReplayActor(config())
    block = np.arange(400, dtype=np.float32)
    row = replace(
        trajectory(0), prompt_tokens=block.view(np.int32)[:3], tokens=block.view(np.int32)[3:7], logprobs=block[7:11], old_logprobs=None
    )
    actor.admit(1, [entering(0, 0, 2.0)], [(1, 0)], [row], {0: block[11:15]})
    (stored,) = actor.draw(1, 1)[1]
    for array in (stored.prompt_tokens, stored.tokens, stored.logprobs, stored.old_logprobs):
        assert not np.shares_memory(array, block)
    np.testing.assert_array_equal(stored.old_logprobs, [11, 12, 13, 14])


def test_old_log_probabilities_of_generated_tokens_are_spread_around_observations() -> None:
    actor = ReplayActor(config(logprobs="stored"))
    turns = replace(trajectory(0, length=4), generated=np.array([True, False, True, True]), versions=(1, 2))
    actor.admit(1, [entering(0, 0, 2.0)], [(1, 0)], [turns], {0: np.array([-1, -2, -3], np.float32)})
    (record,), (stored,) = actor.draw(1, 1)
    assert stored.old_logprobs.tolist() == [-1, 0, -2, -3]
    assert (record.response_tokens, record.observation_tokens, record.version) == (3, 1, 1)


def test_the_store_keeps_the_newest_across_admissions() -> None:
    actor = ReplayActor(config(capacity=3, logprobs="recomputed"))
    sizes = [actor.admit(step, [entering(0, slot, 2.0) for slot in range(2)], [], batch(10 * step, 2)) for step in range(3)]
    assert sizes == [2, 3, 3] and actor.size() == 3
    assert sorted(r.prompt for r in actor.draw(3, 3)[1]) == [11, 20, 21]


def test_a_draw_from_an_empty_store_is_empty() -> None:
    assert ReplayActor(config()).draw(5, 8) == ([], [])


def test_a_draw_leaves_out_what_is_older_than_the_config_allows() -> None:
    actor = ReplayActor(config(logprobs="recomputed", max_age=2))
    for step in (3, 5):
        actor.admit(step, [entering(0, 0, 2.0)], [], batch(step, 1))
    assert [record.admitted for record in actor.draw(6, 8)[0]] == [5]
    assert actor.draw(8, 8) == ([], []) and actor.size() == 2


def leftovers(batches: list[list[Trajectory]]) -> list[TrainingSample]:
    """Two waiting samples, their response batch given by position as `save` wants it."""
    first = sample(1.0, kind=Kind.EXPLORATION, advantage=1 / 3, slot=2, batch=1)
    second = sample(0.1, accuracy=0.0, truncated=True, advantage=-0.7, slot=0, batch=0)
    return [first, replace(second, error="ValueError: no number", timed_out=True)]


def test_a_checkpoint_brings_back_the_store_the_draws_and_the_leftover_batch(tmp_path) -> None:
    actor = ReplayActor(config(capacity=6))
    rows = batch(0, 8)
    old = {i: -np.arange(2 + i % 4, dtype=np.float32) / 3 for i in range(8)}
    actor.admit(3, [entering(0, i, 1.1 + i / 3) for i in range(8)], [(1, i) for i in range(8)], rows, old)
    actor.draw(3, 2)
    batches = [batch(30, 2), batch(40, 3, Kind.EXPLORATION)]
    waiting = leftovers(batches)
    actor.save(str(tmp_path), waiting, *batches)

    other = ReplayActor(config(capacity=6))
    restored, restored_rows = other.load(str(tmp_path))
    assert [e.advantage for e in other.store.entries] == [e.advantage for e in actor.store.entries]
    for _ in range(3):
        records, rollouts = actor.draw(8, 4)
        records_again, rollouts_again = other.draw(8, 4)
        assert records_again == records
        for one, again in zip(rollouts, rollouts_again, strict=True):
            assert_same(one, again)
    # slot and batch point into the one response batch that came back; all else is as it was
    assert restored == [replace(t, batch=None, slot=i) for i, t in enumerate(waiting)]
    assert isinstance(restored[0].kind, Kind)
    assert_same(restored_rows[0], batches[1][2])
    assert_same(restored_rows[1], batches[0][0])


def test_an_empty_store_and_no_leftover_survive_a_checkpoint(tmp_path) -> None:
    ReplayActor(config()).save(str(tmp_path), [])
    actor = ReplayActor(config())
    assert actor.load(str(tmp_path)) == ([], [])
    assert actor.size() == 0


def test_a_response_without_tokens_survives_a_checkpoint(tmp_path) -> None:
    actor = ReplayActor(config(logprobs="recomputed"))
    actor.admit(1, [entering(0, 0, 2.0)], [], [trajectory(5, length=0)])
    actor.save(str(tmp_path), [])
    other = ReplayActor(config(logprobs="recomputed"))
    other.load(str(tmp_path))
    assert_same(other.draw(1, 1)[1][0], trajectory(5, length=0))


@pytest.mark.e2e
def test_tokens_go_from_the_object_store_into_the_replay_store_and_out_again(tmp_path) -> None:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    try:
        actor = ray.remote(ReplayActor).options(num_cpus=0).remote(config())
        rows = [trajectory(i, length=40000) for i in range(3)]  # large enough for shared memory
        old = {4: np.full(40000, -1.5, np.float32)}
        batch_ref, old_ref = ray.put(rows), ray.put(old)
        assert ray.get(actor.admit.remote(1, [entering(0, 2, 1.5)], [(1, 4)], batch_ref, old_ref)) == 1
        waiting = [sample(1.0, advantage=2.0, slot=1, batch=0)]
        ray.get(actor.save.remote(str(tmp_path), waiting, batch_ref))
        other = ray.remote(ReplayActor).options(num_cpus=0).remote(config())
        leftover_ref, leftover_batch = other.load.options(num_returns=2).remote(str(tmp_path))
        (restored,) = ray.get(leftover_ref)
        assert_same(ray.get(leftover_batch)[restored.slot], rows[1])
        for each in (actor, other):
            records_ref, rollouts_ref = each.draw.options(num_returns=2).remote(3, 1)
            (record,) = ray.get(records_ref)
            assert (record.admitted, record.response_tokens) == (1, 40000)
            assert_same(ray.get(rollouts_ref)[record.slot], replace(rows[2], old_logprobs=old[4]))
    finally:
        ray.shutdown()
