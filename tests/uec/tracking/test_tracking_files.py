"""metrics.jsonl, events.jsonl and TensorBoard's files."""

import importlib.util
import json
from pathlib import Path

import pytest

from uec.config.schema import Config
from uec.errors import BadInput, RunFailed
from uec.tracking.jsonl import JsonlSink
from uec.tracking.metrics_file import read_metrics
from uec.tracking.sink import Sink
from uec.tracking.tracker import Tracker, make_tracker


def new_tracker(*sinks: str) -> Tracker:
    return make_tracker(Config(tracking=list(sinks)))


def lines(folder: Path) -> list[dict[str, float]]:
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def test_a_step_is_one_line_of_finite_metrics(tmp_path: Path) -> None:
    with new_tracker("jsonl") as tracker:
        tracker.start(Config(), tmp_path)
        tracker.log(1, {"reward/mean": 0.25, "policy/loss": float("nan"), "policy/kl": None, "weights/version": 1})
        # The line can be read immediately, not only at the end.
        assert lines(tmp_path) == [{"step": 1, "reward/mean": 0.25, "weights/version": 1}]
        tracker.log(2, {"reward/mean": 0.5})
    assert lines(tmp_path) == [{"step": 1, "reward/mean": 0.25, "weights/version": 1}, {"step": 2, "reward/mean": 0.5}]


def test_an_evaluation_shares_the_line_of_its_step(tmp_path: Path) -> None:
    with new_tracker("jsonl") as tracker:
        tracker.start(Config(), tmp_path)
        tracker.evaluation(0, {"eval/pass@1": 0.3})
        tracker.log(1, {"reward/mean": 0.25})
        tracker.evaluation(1, {"eval/pass@1": 0.4, "eval/entropy": float("inf")})
        tracker.log(2, {"reward/mean": 0.5})
    assert lines(tmp_path) == [
        {"step": 0, "eval/pass@1": 0.3},
        {"step": 1, "reward/mean": 0.25, "eval/pass@1": 0.4},
        {"step": 2, "reward/mean": 0.5},
    ]


def test_a_resumed_run_removes_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a": 3}\n{"step": 4, "a"')
    with new_tracker("jsonl") as tracker:
        tracker.start(Config(), tmp_path, step=2)
        tracker.evaluation(2, {"eval/pass@1": 0.5})
        tracker.log(3, {"a": 30})
    assert lines(tmp_path) == [{"step": 1, "a": 1}, {"step": 2, "a": 2, "eval/pass@1": 0.5}, {"step": 3, "a": 30}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("line", ['{"step": 2,', "[1, 2]", '{"a": 1}'])
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(BadInput, match=r"metrics\.jsonl, line 2"), new_tracker("jsonl") as tracker:
        tracker.start(Config(), tmp_path, step=3)


def test_an_event_is_stored_with_the_step_before_it(tmp_path: Path) -> None:
    with new_tracker("jsonl") as tracker:
        tracker.start(Config(), tmp_path)
        tracker.event("started")
        tracker.log(7, {})
        tracker.event("engine rollout-0 died: out of memory;\nrestarted")
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(event["step"], event["event"]) for event in events] == [
        (0, "started"),
        (7, "engine rollout-0 died: out of memory;\nrestarted"),
    ]
    assert lines(tmp_path) == [{"step": 7}]


def test_all_sinks_are_closed_even_if_one_of_them_fails(tmp_path: Path) -> None:
    closed: list[bool] = []

    class Stubborn(Sink):
        def close(self, ok: bool) -> None:
            raise OSError("no space left")

    class Witness(Sink):
        def close(self, ok: bool) -> None:
            closed.append(ok)

    tracker = Tracker([Witness(), Stubborn(), Witness()])
    with pytest.raises(OSError, match="no space"), tracker:
        tracker.start(Config(), tmp_path)
        raise KeyboardInterrupt
    assert closed == [False, False]


def test_tensorboard_gets_the_same_metrics(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with new_tracker("tensorboard") as tracker:
        tracker.start(Config(), tmp_path)
        tracker.evaluation(0, {"eval/pass@16": 0.75})
        tracker.log(1, {"reward/mean": 0.25, "policy/loss": float("nan")})
        tracker.log(2, {"reward/mean": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = events.Tags()["tensors"]
    read = {tag: [(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors(tag)] for tag in tags}
    assert read == {"eval/pass@16": [(0, 0.75)], "reward/mean": [(1, 0.25), (2, 0.5)]}


@pytest.mark.parametrize("sink", ["tensorboard", "wandb"])
def test_a_sink_without_its_package_is_bad_input(sink: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=f"pip install {sink}"):
        new_tracker(sink)


def test_a_full_disk_ends_the_run_with_the_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonlSink()
    sink.start(Config(), tmp_path, 0)
    sink.log(1, {"reward/mean": 0.5})
    monkeypatch.setattr(sink, "_file", open("/dev/full", "r+b"))
    with pytest.raises(RunFailed, match=r"metrics\.jsonl of the run folder cannot be written: .*No space left on device"):
        sink.log(2, {"reward/mean": 0.5})
    with pytest.raises(RunFailed, match=r"metrics\.jsonl"):
        sink.close(False)
    sink.close(False)  # a second call does not raise
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1]
