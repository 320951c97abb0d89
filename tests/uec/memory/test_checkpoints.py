"""The disk space of checkpoints of models whose weights are not on this machine."""

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.model_folders import model_folder
from uec.config.schema import Config
from uec.errors import BadInput
from uec.memory.checkpoints import check_checkpoints, checkpoint_bytes

SEVEN = 7_615_616_512
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def seven(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., Config]:
    """A config of the 7B text model, of which only config.json and tokenizer are here, as of a hub name before its download."""
    path = model_folder(tmp_path / "seven", "Qwen2.5-7B-Instruct")
    return lambda *overrides: make_config(f"model.path={path}", f"run.dir={tmp_path}", *overrides)


def test_7b_takes_91_gb_of_state_and_15_gb_of_policy(seven: Callable[..., Config]) -> None:
    assert checkpoint_bytes(seven()) == (12 + 2) * SEVEN + (16 << 20)
    assert round(12 * SEVEN / 1e9) == 91 and round(2 * SEVEN / 1e9) == 15
    assert checkpoint_bytes(seven("model.dtype=float32")) == 16 * SEVEN + (16 << 20)


def test_a_disk_needs_room_for_the_kept_checkpoints_and_one_more(
    seven: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cfg = seven("checkpoint.keep=2")
    need = 3 * checkpoint_bytes(cfg)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(need, 0, need))
    check_checkpoints(cfg, tmp_path / "run")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(need, 0, need - 1))
    with pytest.raises(BadInput, match=rf"checkpoint.keep=2 and the next checkpoint take about {need >> 20} MiB"):
        check_checkpoints(cfg, tmp_path / "run")


def test_a_model_whose_weights_are_here_is_not_counted_again(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, 0))
    check_checkpoints(make_config(), tmp_path / "run")
