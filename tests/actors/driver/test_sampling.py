"""What a step samples: rounds that stop early, and prompts that replace uninformative ones. Plain asyncio, no actors."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from actors.driver.sampling import Sampler
from tests.support.examples import group
from uec.algorithm.exploration import ExplorationSchedule
from uec.config.schema import Config, DynamicSamplingConfig, TrainConfig
from uec.data.prompt_order import PromptOrder
from uec.types import Kind, PromptRollouts, TrainingSample


class Images:
    """Stands in for an ImageCache: the prompts that it is asked to have ready."""

    def __init__(self) -> None:
        self.wanted: list[int] = []

    def prefetch(self, prompts: list[int]) -> None:
        self.wanted += prompts


def sampler(cfg: Config, order: PromptOrder, images: Images | None = None, rollouts: object = None) -> Sampler:
    supervisor = SimpleNamespace(images=images or Images(), difficulty=None)
    return Sampler(cfg, supervisor, rollouts, SimpleNamespace(version=1), ExplorationSchedule(1.0, 4), order)


# --- rounds


def rounds(
    answers: list[list[float]], sizes: list[int], until: str, kind: Kind = Kind.EXPLORATION
) -> tuple[list[TrainingSample], list[int]]:
    """The group from engines that give these rewards one round after the other, and the sizes that they were asked for."""
    asked: list[int] = []

    class Rollouts:
        async def sample(self, prompt: int, n: int, temperature: float, sampled_kind: Kind) -> list[TrainingSample]:
            assert (prompt, temperature, sampled_kind) == (7, 1.2, kind)
            asked.append(n)
            answer = answers[len(asked) - 1]
            assert len(answer) == n
            return group(answer, sampled_kind)

    made = sampler(Config(), in_order(), rollouts=Rollouts())
    return asyncio.run(made.group(7, sizes, 1.2, kind, until)), asked


def test_exploration_stops_after_the_first_round_with_a_right_response() -> None:
    found, asked = rounds([[0, 0, 0], [0, 1, 0], [1, 1]], [3, 3, 2], "right")
    assert asked == [3, 3]
    assert [t.reward for t in found] == [0, 0, 0, 0, 1, 0]
    assert {t.kind for t in found} == {Kind.EXPLORATION}


def test_all_rounds_are_spent_where_nothing_is_right() -> None:
    found, asked = rounds([[0, 0, 0], [0, 0, 0], [0, 0]], [3, 3, 2], "right")
    assert asked == [3, 3, 2] and len(found) == 8


def test_one_round_is_one_request() -> None:
    assert rounds([[0, 0, 0, 0]], [4], "right")[1] == [4]


def test_balanced_rounds_go_on_until_half_a_round_is_right_and_half_a_round_wrong() -> None:
    # after the first: 1 right, 3 wrong; after the second: 1 and 7; after the third: 2 and 10, half of four is two
    found, asked = rounds([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]], [4] * 4, "balanced", Kind.REGULAR)
    assert asked == [4, 4, 4] and sum(t.right(0.01) for t in found) == 2


def test_balanced_rounds_go_on_with_an_easy_prompt_too() -> None:
    assert rounds([[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], [4] * 4, "balanced", Kind.REGULAR)[1] == [4, 4, 4]


# --- dynamic sampling


def config(prompts: int = 4, most: float = 3.0, enabled: bool = True) -> Config:
    return Config(train=TrainConfig(prompts_per_step=prompts), dynamic_sampling=DynamicSamplingConfig(enabled=enabled, max_prompts=most))


def sampled(prompt: int, informative: bool) -> PromptRollouts:
    made = group([1.0, 0.0] if informative else [0.0, 0.0])
    return PromptRollouts([replace(sample, prompt=prompt) for sample in made], None, difficult=not informative)


Explore = Callable[[int, asyncio.Barrier | None], object]


def prompts(cfg: Config, order: PromptOrder, explore: Explore, images: Images | None = None) -> list[PromptRollouts]:
    """A step's prompts, where `explore` samples each."""
    made = sampler(cfg, order, images)
    made.prompt = explore  # type: ignore[method-assign]
    return asyncio.run(asyncio.wait_for(made._prompts(), timeout=5))


def step(cfg: Config, order: PromptOrder, informative: Callable[[int], bool]) -> list[PromptRollouts]:
    """A step's prompts, where generation takes each a different number of turns of the loop."""

    async def explore(prompt: int, regular_done: asyncio.Barrier | None) -> PromptRollouts:
        for _ in range(prompt % 5):
            await asyncio.sleep(0)
        return sampled(prompt, informative(prompt))

    return prompts(cfg, order, explore)


def numbers(found: list[PromptRollouts]) -> list[int]:
    return [each.regular[0].prompt for each in found]


def in_order() -> PromptOrder:
    return PromptOrder(100, seed=0, shuffle=False)


def test_the_images_of_this_step_and_then_of_the_next_are_made_ready() -> None:
    images = Images()

    async def explore(prompt: int, regular_done: asyncio.Barrier | None) -> PromptRollouts:
        assert images.wanted == [0, 1, 2, 3, 4, 5, 6, 7]  # before anything is sampled
        return sampled(prompt, True)

    order = in_order()
    prompts(config(), order, explore, images)
    assert order.take(1) == [4]


def test_without_dynamic_sampling_no_prompt_is_replaced() -> None:
    order = in_order()
    assert numbers(step(config(enabled=False), order, lambda prompt: False)) == [0, 1, 2, 3]
    assert order.take(1) == [4]


def test_an_uninformative_prompt_is_replaced_by_the_next_of_the_data_and_returned_too() -> None:
    # 1 and 2 give nothing; 4 and 5 come instead, of which 4 gives nothing either, so that 6 comes
    order = in_order()
    found = step(config(), order, lambda prompt: prompt not in (1, 2, 4))
    assert sorted(numbers(found)) == [0, 1, 2, 3, 4, 5, 6]
    assert sorted(numbers([each for each in found if not each.uninformative])) == [0, 3, 5, 6]
    assert order.take(1) == [7]


def test_the_bound_ends_a_step_in_which_no_prompt_is_informative() -> None:
    for most, sampled_prompts in ((1.5, 6), (3.0, 12)):  # times the 4 prompts of a step
        order = in_order()
        found = step(config(most=most), order, lambda prompt: False)
        assert sorted(numbers(found)) == list(range(sampled_prompts))
        assert all(each.uninformative for each in found)
        assert order.take(1) == [sampled_prompts]


def test_a_fraction_of_a_prompt_beyond_the_bound_is_none() -> None:
    assert len(step(config(prompts=3, most=1.5), in_order(), lambda prompt: False)) == 4  # 4.5


def test_nothing_is_replaced_where_all_are_informative() -> None:
    assert numbers(step(config(), in_order(), lambda prompt: True)) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_every_prompt_that_was_taken_is_returned_and_there_are_enough_or_the_bound_is_reached(seed: int) -> None:
    rng = random.Random(seed)
    gives = [rng.random() < 0.4 for _ in range(100)]
    order, again = PromptOrder(100, seed, shuffle=True), PromptOrder(100, seed, shuffle=True)
    found = step(config(prompts=8, most=2.0), order, gives.__getitem__)
    assert sorted(numbers(found)) == sorted(again.take(len(found)))  # the first of the seeded order, each once
    assert order.state() == again.state()
    informative = sum(not each.uninformative for each in found)
    assert informative == 8 or (len(found) == 16 and informative < 8)


def test_a_resumed_order_goes_on_behind_the_replacements() -> None:
    order = PromptOrder(100, seed=3, shuffle=True)
    step(config(), order, lambda prompt: prompt % 2 == 0)
    resumed = PromptOrder(100, seed=3, shuffle=True)
    resumed.load(json.loads(json.dumps(order.state())))
    assert resumed.take(20) == order.take(20)


def test_a_replacement_does_not_wait_for_the_regular_groups_of_all() -> None:
    """With exploration.stream=false the first prompts meet at a barrier; one more would never find its like."""
    waited: list[tuple[int, bool]] = []

    async def explore(prompt: int, regular_done: asyncio.Barrier | None) -> PromptRollouts:
        waited.append((prompt, regular_done is not None))
        if regular_done is not None:
            await regular_done.wait()
        return sampled(prompt, informative=prompt >= 4)

    found = prompts(config(), in_order(), explore)
    assert sorted(waited) == [(prompt, prompt < 4) for prompt in range(8)]
    assert len(found) == 8


def test_a_failure_of_one_prompt_ends_the_step() -> None:
    async def explore(prompt: int, regular_done: asyncio.Barrier | None) -> PromptRollouts:
        raise RuntimeError(f"prompt {prompt}")

    with pytest.raises(RuntimeError, match="prompt 0"):
        prompts(config(), in_order(), explore)
