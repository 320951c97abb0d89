"""In which order prompts are taken."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uec.data.dataset import digest
from uec.data.prompt_order import PromptOrder
from uec.errors import BadInput
from uec.types import Answer, Prompt


def test_each_epoch_holds_every_prompt_once_in_a_new_order() -> None:
    order = PromptOrder(50, seed=0, shuffle=True)
    first, second = order.take(50), order.take(50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second != list(range(50))


def test_without_shuffling_prompts_come_as_they_are_in_the_file() -> None:
    order = PromptOrder(5, seed=0, shuffle=False)
    assert order.take(3) + order.take(4) == [0, 1, 2, 3, 4, 0, 1]


def test_a_batch_may_reach_into_the_next_epoch_and_be_larger_than_the_data() -> None:
    assert sorted(PromptOrder(3, seed=0, shuffle=True).take(9)) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_the_seed_decides_the_order() -> None:
    assert PromptOrder(100, 1, True).take(100) == PromptOrder(100, 1, True).take(100) != PromptOrder(100, 2, True).take(100)


@given(st.integers(1, 30), st.lists(st.integers(1, 12), max_size=8), st.booleans())
def test_a_loaded_state_goes_on_exactly(n: int, taken: list[int], shuffle: bool) -> None:
    order = PromptOrder(n, 3, shuffle)
    for count in taken:
        order.take(count)
    resumed = PromptOrder(n, 99, not shuffle)
    resumed.load(json.loads(json.dumps(order.state())))
    assert [order.take(7) for _ in range(9)] == [resumed.take(7) for _ in range(9)]
    assert order.state() == resumed.state()


def test_a_state_of_another_data_set_is_refused() -> None:
    with pytest.raises(BadInput, match="made with 10 training prompts, now there are 9"):
        PromptOrder(9, 0, True).load(PromptOrder(10, 0, True).state())


def test_other_rows_of_the_same_number_are_refused_and_old_checkpoints_are_taken() -> None:
    with pytest.raises(BadInput, match="other training prompts or answers than these 9"):
        PromptOrder(9, 0, True, "a").load(PromptOrder(9, 0, True, "b").state())
    PromptOrder(9, 0, True, "a").load(PromptOrder(9, 0, True, "a").state())
    old = PromptOrder(9, 0, True).state()
    del old["digest"]
    PromptOrder(9, 0, True, "a").load(old)


def test_the_digest_reads_prompts_answers_and_images_and_no_other_column() -> None:
    def prompt(tokens: list[int], answer: Answer, images: tuple[str, ...] = (), **row: int) -> Prompt:
        return Prompt(0, "", np.array(tokens, np.int32), answer, row, images)

    same = [prompt([1, 2], "a", ("/x/a.png",), level=1)], [prompt([1, 2], "a", ("/y/a.png",), level=2)]
    others = [
        [prompt([1, 3], "a", ("a.png",))], [prompt([1, 2], "b", ("a.png",))], [prompt([1, 2], ["a"], ("a.png",))], [prompt([1, 2], "a")],
        [prompt([1], "a"), prompt([2], "a")], [prompt([1, 2], "a"), prompt([], "a")],
    ]  # fmt: skip
    assert digest(same[0]) == digest(same[1])
    assert len({digest(each) for each in [same[0], *others]}) == 7


def test_looking_ahead_gives_what_is_taken_next_and_takes_nothing():
    order = PromptOrder(5, seed=3, shuffle=True)
    order.take(3)
    ahead = order.peek(4)  # into the next epoch
    assert order.take(4) == ahead
