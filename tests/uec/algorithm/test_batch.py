"""The batch buffer, with and without accumulation."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import sample
from uec.algorithm.batch import BatchBuffer
from uec.config.schema import BatchConfig, Config, RolloutConfig, TrainConfig
from uec.types import TrainingSample


def buffer(accumulate: bool, prompts: int = 2, n: int = 3) -> BatchBuffer:
    train = TrainConfig(prompts_per_step=prompts)
    return BatchBuffer(Config(batch=BatchConfig(accumulate=accumulate), train=train, rollout=RolloutConfig(n=n)))


def numbered(first: int, last: int) -> list[TrainingSample]:
    return [sample(float(i)) for i in range(first, last)]


def numbers(batch: list[TrainingSample]) -> list[int]:
    return [int(t.reward) for t in batch]


def test_without_accumulation_a_step_trains_on_all_that_it_kept() -> None:
    waiting = buffer(accumulate=False)
    for count in (4, 0, 100):  # 100 is far above 2 B G = 12
        assert waiting.add(numbered(0, count)) == 0
        assert numbers(waiting.take()) == list(range(count))
        assert len(waiting) == 0


def test_with_accumulation_an_update_waits_for_a_whole_batch() -> None:
    waiting = buffer(accumulate=True)  # B G = 6
    waiting.add(numbered(0, 5))
    assert waiting.take() == []
    waiting.add(numbered(5, 8))
    assert numbers(waiting.take()) == [0, 1, 2, 3, 4, 5]
    assert waiting.take() == []
    assert numbers(waiting.leftover()) == [6, 7]


def test_exactly_a_whole_batch_is_enough() -> None:
    waiting = buffer(accumulate=True)
    waiting.add(numbered(0, 6))
    assert numbers(waiting.take()) == [0, 1, 2, 3, 4, 5]


def test_the_oldest_beyond_two_batches_are_lost_and_counted() -> None:
    waiting = buffer(accumulate=True)
    assert waiting.add(numbered(0, 10)) == 0
    assert waiting.add(numbered(10, 15)) == 3
    assert numbers(waiting.leftover()) == list(range(3, 15))
    assert buffer(accumulate=True).add(numbered(0, 20)) == 8


def test_a_buffer_goes_on_from_its_leftover() -> None:
    first, second = buffer(accumulate=True), buffer(accumulate=True)
    first.add(numbered(0, 9))
    first.take()
    second.add(first.leftover())
    for each in (first, second):
        each.add(numbered(9, 13))
    assert numbers(second.take()) == numbers(first.take()) == [6, 7, 8, 9, 10, 11]


@given(st.booleans(), st.lists(st.integers(0, 20), max_size=10))
def test_a_buffer_is_a_queue_of_bounded_length(accumulate: bool, steps: list[int]) -> None:
    waiting, model, made = buffer(accumulate), deque(), 0
    for count in steps:
        lost = waiting.add(numbered(made, made + count))
        model.extend(range(made, made + count))
        made += count
        assert lost == (max(0, len(model) - 12) if accumulate else 0)
        for _ in range(lost):
            model.popleft()
        batch = numbers(waiting.take())
        assert len(batch) == ((6 if len(model) >= 6 else 0) if accumulate else len(model))
        assert batch == [model.popleft() for _ in batch]
        assert numbers(waiting.leftover()) == list(model)
