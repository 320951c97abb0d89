"""The size of the object store from the images of the data."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from uec.config.schema import Config
from uec.memory import object_store
from uec.memory.object_store import resolve_object_store
from uec.types import ImageFeatures, Prompt

GEOMETRY = Prompt(0, "", np.zeros(400, np.int32), "", {}, images=("a",), spans=((4, 324),))
"""A prompt with an image of 320 tokens, that is 320 * 4 patches of 1176 numbers."""


class Blank:
    """In the place of a Qwen2.5-VL processor: a blank image has 4 tokens, which are 16 patches of 1176 float32 numbers."""

    def blank(self) -> tuple[Any, ImageFeatures]:
        return None, ImageFeatures(-1, {"pixel_values": np.zeros((16, 1176), np.float32)}, ("",), 4)


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    machine = SimpleNamespace(bytes=1 << 40)
    monkeypatch.setattr(object_store, "free_memory", lambda: (0, machine.bytes))
    return machine


def resolved(cfg: Config, processor: Any) -> int | None:
    resolve_object_store(cfg, [GEOMETRY], processor)
    return cfg.cluster.object_store_mb


def test_text_and_small_images_get_256_mib(make_config: Callable[..., Config]) -> None:
    assert resolved(make_config(), None) == 256
    assert resolved(make_config("train.prompts_per_step=1"), Blank()) == 256


def test_images_get_room_for_three_steps(make_config: Callable[..., Config]) -> None:
    step = 512 * 320 * 4 * 1176 * 4
    assert resolved(make_config("train.prompts_per_step=512"), Blank()) == 3 * step // 2**20 + 128 == 8948


def test_a_machine_gives_at_most_three_tenths_and_a_given_size_stays(make_config: Callable[..., Config], memory: SimpleNamespace) -> None:
    memory.bytes = 10 << 30
    assert resolved(make_config("train.prompts_per_step=512"), Blank()) == 3072
    assert resolved(make_config("cluster.object_store_mb=100"), Blank()) == 100
