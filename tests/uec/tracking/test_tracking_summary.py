"""The table at the end of a run."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from uec.config.schema import Config
from uec.tracking.summary import Line, Summary, compare, plain, read_history, show
from uec.tracking.tracker import make_tracker

ROWS = [
    {"step": 0, "eval/pass@1": 0.303, "eval/pass@1_low": 0.28, "eval/pass@1_high": 0.33, "eval/pass@16": 0.711, "eval/entropy": 1.4},
    {"step": 1, "rollout/tokens": 5000, "policy/entropy": 1.45, "reward/accuracy_mean": 0.29},
    {"step": 2, "rollout/tokens": 6000, "policy/entropy": 1.20, "reward/accuracy_mean": 0.35, "eval/pass@1": 0.4, "eval/pass@16": 0.8},
    {"step": 3, "rollout/tokens": 7000, "policy/entropy": 1.10, "reward/accuracy_mean": 0.45}
    | {"eval/pass@1": 0.458, "eval/pass@1_low": 0.43, "eval/pass@1_high": 0.49, "eval/pass@16": 0.701, "eval/entropy": 1.0},
]


def write(folder: Path, rows: list[dict[str, float]]) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_before_is_the_first_evaluation_and_after_the_last(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    summary = read_history(tmp_path).summary(tmp_path, 85.0)
    assert (summary.steps, summary.tokens, summary.wall_s) == (3, 18000, 85.0)
    assert compare(summary) == [
        Line("pass@1", "0.303 (0.28 to 0.33)", "0.458 (0.43 to 0.49)", "+0.155"),
        Line("pass@16", "0.711", "0.701", "-0.010"),
        Line("entropy", "1.400", "1.000", "-0.400"),
    ]


def test_without_evaluations_the_training_metrics_are_compared(tmp_path: Path) -> None:
    write(tmp_path, [{key: value for key, value in row.items() if not key.startswith("eval/")} for row in ROWS])
    assert compare(read_history(tmp_path).summary(tmp_path, 85.0)) == [
        Line("training accuracy", "0.290", "0.450", "+0.160"),
        Line("training entropy", "1.450", "1.100", "-0.350"),
    ]


def test_parts_of_the_reward_beside_accuracy_have_a_line_each(tmp_path: Path) -> None:
    ends = [{"step": step, "eval/pass@1": 0.4, "eval/accuracy_mean": 0.4, "eval/answer_mean": mean, "eval/response_len_mean": 9.0}
            for step, mean in ((0, 0.5), (2, 0.625))]  # fmt: skip
    write(tmp_path, ends)
    assert Line("mean answer", "0.500", "0.625", "+0.125") in compare(read_history(tmp_path).summary(tmp_path, 1.0))
    assert [line.label for line in compare(read_history(tmp_path).summary(tmp_path, 1.0))] == ["pass@1", "mean answer", "response length"]


def test_a_missing_evaluation_is_shown_as_a_dash(tmp_path: Path) -> None:
    write(tmp_path, ROWS[:2])
    assert compare(read_history(tmp_path).summary(tmp_path, 85.0))[0] == Line("pass@1", "0.303 (0.28 to 0.33)", "-", "")
    write(tmp_path, [ROWS[1], ROWS[3]])
    assert compare(read_history(tmp_path).summary(tmp_path, 85.0))[0] == Line("pass@1", "-", "0.458 (0.43 to 0.49)", "")


def test_a_resumed_run_is_compared_with_its_first_evaluation(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    with make_tracker(Config(tracking=["jsonl"])) as tracker:
        tracker.start(Config(), tmp_path, step=2)
        tracker.log(3, {"rollout/tokens": 9000})
        tracker.evaluation(3, {"eval/pass@1": 0.5})
        summary = tracker.summary(1.0)
    assert (summary.steps, summary.tokens) == (3, 20000)
    assert (summary.before["eval/pass@1"], summary.after["eval/pass@1"]) == (0.303, 0.5)
    assert read_history(tmp_path).summary(tmp_path, 1.0) == summary


def test_a_run_without_a_metrics_file_has_the_same_summary(tmp_path: Path) -> None:
    with make_tracker(Config(tracking=[])) as tracker:
        tracker.start(Config(), tmp_path)
        for row in ROWS:
            (tracker.log if row["step"] else tracker.evaluation)(int(row["step"]), {key: row[key] for key in row if key != "step"})
        summary = tracker.summary(85.0)
    write(tmp_path, ROWS)
    assert summary == read_history(tmp_path).summary(tmp_path, 85.0)


def test_a_run_without_steps_still_names_its_folder() -> None:
    assert plain(Summary(Path("runs/x"), 0, 3.0, 0)) == "0 steps, 0 tokens generated, 0:03\nruns/x"


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_the_table_fits_the_terminal(tmp_path: Path, width: int) -> None:
    write(tmp_path, ROWS)
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width, _environ={})
    show(read_history(tmp_path).summary(tmp_path, 85.0), console)
    *lines, folder = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    assert folder.rstrip() == str(tmp_path), "a path is not wrapped"
    text = "\n".join(lines)
    for shown in ("pass@16", "0.458", "+0.155", "3 steps, 18.0k tokens", "1:25"):
        assert shown in text


def test_the_plain_table_is_aligned(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    heading, *lines, totals, folder = plain(read_history(tmp_path).summary(tmp_path, 85.0)).splitlines()
    assert {len(line) for line in lines} == {len(heading)}
    assert totals == "3 steps, 18.0k tokens generated, 1:25"
    assert folder == str(tmp_path)
