"""Warnings about a run that goes astray."""

import json
from pathlib import Path

import pytest

from uec.config.schema import Config, WarnConfig
from uec.tracking.alarms import FIRST, Alarms
from uec.tracking.tracker import make_tracker

STEADY = {"policy/entropy": 0.5, "policy/rollout_logprob_gap_mean": 1e-6, "reward/error_frac": 0.0}


def after_the_first_steps(**bounds: float | None) -> Alarms:
    alarms = Alarms(WarnConfig(**bounds))
    assert [line for _ in range(FIRST) for line in alarms.look(STEADY)] == []
    return alarms


@pytest.mark.parametrize(
    ("metrics", "field", "text"),
    [
        ({"policy/entropy": 0.049}, "entropy_below", "the entropy has collapsed to 0.049 nats, from 0.5 at first (warn.entropy_below=0.1)"),
        ({"policy/entropy": 1.51}, "entropy_above", "the entropy has blown up to 1.51 nats, from 0.5 at first (warn.entropy_above=3)"),
        (
            {"policy/rollout_logprob_gap_mean": 0.11}, "logprob_gap",
            "engine and learner differ by 0.11 nats on average (warn.logprob_gap=0.1)",
        ),
        ({"reward/error_frac": 0.06}, "error_frac", "6.0% of the gradings failed (warn.error_frac=0.05)"),
    ],
)  # fmt: skip
def test_each_bound_is_warned_of_once_when_it_is_crossed(metrics: dict[str, float], field: str, text: str) -> None:
    alarms = after_the_first_steps()
    assert alarms.look(STEADY) == []
    assert alarms.look(STEADY | metrics) == [text]
    assert alarms.look(STEADY) == alarms.look(STEADY | metrics) == []
    assert after_the_first_steps(**{field: None}).look(STEADY | metrics) == []


def test_values_on_a_bound_and_steps_without_an_update_are_fine() -> None:
    alarms = after_the_first_steps()
    assert alarms.look({"policy/entropy": 0.05, "policy/rollout_logprob_gap_mean": 0.1, "reward/error_frac": 0.05}) == []
    assert alarms.look({"reward/error_frac": 0.0}) == []


def test_a_resumed_run_knows_the_first_steps_and_says_nothing_twice(tmp_path: Path) -> None:
    cfg = Config(tracking=["jsonl"])
    collapsed = STEADY | {"policy/entropy": 0.01}

    def run(resumed: int, steps: list[dict[str, float]]) -> None:
        with make_tracker(cfg) as tracker:
            tracker.start(cfg, tmp_path, resumed)
            for number, metrics in enumerate(steps, resumed + 1):
                tracker.log(number, metrics)

    def warnings() -> list[tuple[int, str]]:
        events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
        return [(event["step"], event["event"]) for event in events if event["event"].startswith("warning")]

    run(0, [STEADY] * FIRST)
    run(FIRST, [collapsed])
    run(FIRST + 1, [collapsed, STEADY | {"reward/error_frac": 0.06}])
    assert warnings() == [
        (FIRST + 1, "warning: the entropy has collapsed to 0.01 nats, from 0.5 at first (warn.entropy_below=0.1)"),
        (FIRST + 3, "warning: 6.0% of the gradings failed (warn.error_frac=0.05)"),
    ]
