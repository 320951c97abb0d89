"""What the image cache holds stays within its share of the object store. Ray and the ImageActor have stand-ins."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from actors.driver import image_cache
from actors.driver.image_cache import SHARE, ImageCache
from uec.types import Prompt

TOKENS, TOKEN_BYTES, PROMPTS_PER_STEP = 10, 1000.0, 4
OF_A_STEP = PROMPTS_PER_STEP * TOKENS * TOKEN_BYTES


class Handle:
    """In the place of an ImageActor: it answers at once with its bytes per image token, and counts what it makes."""

    def __init__(self) -> None:
        self.process = self
        self.made: list[int] = []

    def options(self, num_returns: int) -> "Handle":
        return self

    def remote(self, prompts: list[int]) -> list[Any]:
        self.made += prompts
        done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        done.set_result(TOKEN_BYTES)
        return [done, *(f"features of {prompt}" for prompt in prompts)]


def prompt(index: int) -> Prompt:
    return Prompt(index, "", np.zeros(TOKENS, np.int32), "", {}, images=("image",), spans=((0, TOKENS),))


def cache(monkeypatch: pytest.MonkeyPatch, store: float) -> tuple[ImageCache, Handle]:
    """Return a cache on two nodes, the smaller of which has an object store of `store` bytes; a third one has died."""
    nodes = [{"Alive": alive, "Resources": {"object_store_memory": size}} for alive, size in ((True, store), (True, 9e9), (False, 0.0))]
    monkeypatch.setattr(image_cache.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(image_cache.ray, "wait", lambda references, **_: (references, []))
    handle = Handle()
    cfg = SimpleNamespace(train=SimpleNamespace(prompts_per_step=PROMPTS_PER_STEP))
    made = ImageCache(SimpleNamespace(cfg=cfg, image_workers=[SimpleNamespace(handle=handle)]))  # type: ignore[arg-type]
    made.hold([prompt(index) for index in range(100)])
    made._token_bytes = TOKEN_BYTES
    return made, handle


def test_steps_and_what_is_prefetched_stay_within_the_share_of_the_smallest_store(monkeypatch: pytest.MonkeyPatch) -> None:
    store, handle = cache(monkeypatch, 2.5 * OF_A_STEP / SHARE)

    async def run() -> list[float]:
        held = []
        for step in range(20):
            now = range(step * PROMPTS_PER_STEP, (step + 1) * PROMPTS_PER_STEP)
            assert len(await store.references(now)) == PROMPTS_PER_STEP
            store.prefetch(range(now.stop, now.stop + PROMPTS_PER_STEP))
            held.append(store.bytes)
        return held

    held = asyncio.run(run())
    assert max(held) <= 2.5 * OF_A_STEP < 8 * OF_A_STEP
    assert len(handle.made) == len(set(handle.made)), "nothing that is still needed is dropped and made anew"


def test_what_does_not_fit_is_not_prefetched_but_made_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    store, handle = cache(monkeypatch, 1.5 * OF_A_STEP / SHARE)

    async def run() -> None:
        await store.references(range(4))
        store.prefetch(range(4, 8))
        assert handle.made == [0, 1, 2, 3, 4, 5]
        assert len(await store.references(range(4, 8))) == 4
        assert handle.made == list(range(8))
        assert len(await store.references(range(50))) == 50, "what is asked for is made, even if it exceeds the share"

    asyncio.run(run())
