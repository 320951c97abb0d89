"""Failures of an actor are counted in a sliding window. Nothing is started here, and time is a stand-in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from actors.driver.actor_specs import supervise, training_actors
from actors.runtime import supervisor as module
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.tracking.tracker import Tracker

DAY_S = 86_400.0


def count(cfg: Config, folder: Path, monkeypatch: pytest.MonkeyPatch, times: list[float]) -> list[int]:
    """Count failures of the first engine at these times."""
    supervisor = supervise(cfg, training_actors(cfg, "cpu"), folder, Tracker([]))
    counts = []
    for now in times:
        monkeypatch.setattr(module.time, "monotonic", lambda now=now: now)
        counts.append(supervisor._count_failure(supervisor.engines[0], None, RuntimeError("gone")))  # type: ignore[arg-type]
    return counts


def test_three_in_ten_minutes_end_the_run(make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunFailed, match="rollout-0 failed: gone\nIt failed 3 times within supervise.window_s=600 s"):
        count(make_config(), tmp_path, monkeypatch, [0.0, 300.0, 599.0])


def test_three_in_a_week_do_not(make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count(make_config(), tmp_path, monkeypatch, [0.0, DAY_S, 2 * DAY_S, 2 * DAY_S + 300, 7 * DAY_S]) == [1, 1, 1, 2, 1]


def test_the_settings_move_the_bound(make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = make_config("supervise.max_restarts=0", "supervise.window_s=10")
    with pytest.raises(RunFailed, match=r"supervise.max_restarts=0"):
        count(cfg, tmp_path, monkeypatch, [0.0])
    cfg = make_config("supervise.max_restarts=1", "supervise.window_s=10")
    assert count(cfg, tmp_path, monkeypatch, [0.0, 11.0, 22.0]) == [1, 1, 1]
