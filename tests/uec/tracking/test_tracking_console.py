"""The console: plain lines in a file, a live dashboard on a terminal."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from uec.config.schema import Config, ModelConfig, TrainConfig
from uec.tracking.dashboard import Dashboard, Progress
from uec.tracking.number_format import count, decimal, duration, share
from uec.tracking.plain_console import cells, engine_rates, fitted
from uec.tracking.text_charts import LIMIT, Trend, sparkline
from uec.tracking.tracker import make_tracker

ROOT = Path(__file__).resolve().parents[3]
STEP = {
    "time/step_s": 0.73,
    "time/generate_s": 0.31,
    "time/explore_s": 0.06,
    "time/reward_s": 0.02,
    "time/learn_s": 0.35,
    "time/sync_s": 0.02,
    "time/engine_idle_s": 0.13,
    "rollout/engine_tokens_per_s_min": 3411.0,
    "rollout/engine_tokens_per_s_max": 3511.0,
    "rollout/tokens": 5000,
    "rollout/tokens_per_s": 6849.0,
    "reward/mean": 0.303,
    "reward/accuracy_mean": 0.291,
    "policy/entropy": 1.452,
    "explore/difficult_frac": 0.34375,
    "explore/groups": 11,
    "explore/solved_frac": 5 / 11,
    "explore/temperature": 1.2,
    "retain/kept_frac": 0.62,
    "retain/regular": 158,
    "retain/exploration": 12,
    "retain/overlong_dropped": 3,
    "replay/size": 340,
    "replay/used": 128,
    "weights/version": 12,
    "policy/rollout_logprob_gap_max": 3e-5,
}
EVAL = {"eval/pass@1": 0.303, "eval/pass@1_low": 0.28, "eval/pass@1_high": 0.33, "eval/pass@16": 0.711, "eval/entropy": 1.45}


def config() -> Config:
    return Config(model=ModelConfig(path="assets/countdown"), train=TrainConfig(steps=110))


def drawn(
    width: int,
    height: int = 40,
    cfg: Config | None = None,
    folder: str = "runs/llm-uec",
    step: dict[str, float] = STEP,
    **terminal: object,
) -> list[str]:
    """Return the lines of a run's dashboard in step 12, without colours."""
    dashboard = Dashboard(cfg or config(), Path(folder), 0)
    dashboard.evaluation(EVAL)
    for number in range(1, 13):
        dashboard.log(number, step | {"reward/mean": 0.291 + number / 1000})
    dashboard.evaluation(EVAL | {"eval/pass@1": 0.412})
    dashboard.stage = "writing a checkpoint"
    dashboard.progress = Progress("evaluating", 300, 600)
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, _environ={}, **terminal)  # type: ignore[arg-type]
    console.print(dashboard)
    return re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 160])
def test_the_dashboard_is_never_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, drawn(width))) <= width


def test_a_long_path_takes_no_more_lines() -> None:
    assert len(drawn(60, folder="runs/" + 30 * "long-" + "uec")) == len(drawn(60))


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_dashboard_shows_the_main_metrics(width: int) -> None:
    text = "\n".join(drawn(width))
    for shown in (
        "llm-uec",
        "uec on assets/countdown",
        "step  12/110",
        "left",
        "0.73 s",
        "6.8k tokens/s",
        "reward    0.303",
        "accuracy  0.291",
        "entropy   1.452",
        "difficult 34 %",
        "5 of 11 solved at t' 1.20",
        "62 %: 158 regular + 12 exploration",
        "340/512, trained on 128",
        "v12",
        "pass@1 0.412",
        "pass@16 0.711",
        "writing a checkpoint",
        "300/600",
    ):
        assert shown in text, shown
    for part in ("0.25", "exp", "0.06", "rew", "learn 0.35", "sync 0.02", "idle 0.03", "engine    3.4k tokens/s"):
        assert part in text, part


@pytest.mark.parametrize("height", [8, 12, 20, 24])
def test_a_low_terminal_keeps_room_for_the_latest_events(height: int) -> None:
    lines = drawn(80, height)
    assert len(lines) <= height - 4
    assert any("step  12/110" in line for line in lines)


def test_disabled_parts_of_the_algorithm_are_not_shown() -> None:
    cfg = config()
    cfg.exploration.enabled = cfg.replay.enabled = False
    text = "\n".join(drawn(80, cfg=cfg))
    assert "explored" not in text and "replay" not in text and "exploration" not in text
    assert "62 %: 158 regular" in text
    assert "solved" not in fitted(cells(cfg, 12, STEP), 140)


def bars(lines: list[str], label: str) -> str:
    """Return the bar after a label and the seconds, without colours."""
    line = next(line for line in lines if line.startswith(label))
    return re.search(r"[█▓▚▒░·]+", line)[0]  # type: ignore[index]


def test_without_colours_the_parts_of_a_step_differ_by_their_character() -> None:
    bar = bars(drawn(80, no_color=True), "step time")
    parts = (0.25, 0.06, 0.02, 0.35, 0.02, 0.03)  # generate without explore, explore, reward, learn, sync, idle
    assert [bar.count(block) for block in "█▓▚▒░·"] == pytest.approx([len(bar) * part / 0.73 for part in parts], abs=1)


def test_with_rollouts_ahead_learners_and_engines_have_a_bar_each_within_the_step() -> None:
    cfg = config()
    cfg.train.max_staleness = 1
    # The rollouts of this step began in the previous one: together with learning they take longer than the step.
    lines = drawn(80, cfg=cfg, no_color=True, step=STEP | {"time/generate_s": 0.6, "time/step_s": 0.5})
    learners, engines = bars(lines, "learners"), bars(lines, "engines")
    assert len(learners) == len(engines)
    assert [learners.count(block) for block in "▒░·"] == pytest.approx([len(learners) * part / 0.5 for part in (0.35, 0.02, 0.13)], abs=1)
    assert engines.count("█") == pytest.approx(len(engines) * 0.37 / 0.5, abs=1)  # .13 of the .5 s were idle
    text = "\n".join(lines)
    for part in ("generate 0.54 s, explore 0.06 s, reward 0.02 s", "learn 0.35", "sync 0.02", "idle 0.13", "busy 0.37"):
        assert part in text, part


def test_engine_rates_are_listed_if_they_fit_or_else_shown_as_a_range() -> None:
    each = {f"rollout/engine_{number}_tokens_per_s": 1000.0 * (number + 1) for number in range(8)}
    ends = {"rollout/engine_tokens_per_s_min": 1000.0, "rollout/engine_tokens_per_s_max": 8000.0}
    assert engine_rates(each | ends, 8, 70) == "1.0k  2.0k  3.0k  4.0k  5.0k  6.0k  7.0k  8.0k"
    assert engine_rates(each | ends, 8, 50) == engine_rates(ends, 64, 70) == "1.0k to 8.0k"
    assert engine_rates(each | ends | {"rollout/engine_1_tokens_per_s": 950.0}, 2, 70) == "1.0k  950"
    assert engine_rates({}, 2, 70) == ""


def test_plain_lines_contain_the_metrics_and_no_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # must not affect a file
    with make_tracker(Config(tracking=["console"])) as tracker:
        tracker.start(config(), tmp_path)
        tracker.stage("starting 5 actors: rollout engine 12 s, learner ready")
        tracker.evaluation(0, EVAL)
        tracker.log(12, STEP)
        tracker.event("engine rollout-0 died: out of memory; restarted")
        tracker.log(13, {})
        tracker.finish(tracker.summary(85.0))
    text = capsys.readouterr().out
    assert "\x1b" not in text and "\r" not in text
    assert "starting 5 actors: rollout engine 12 s, learner ready\n" in text
    assert "evaluation at step 0: pass@1 0.303, pass@16 0.711, entropy 1.450\n" in text
    assert "engine rollout-0 died: out of memory; restarted\n" in text
    step = next(line for line in text.splitlines() if "12/110" in line)
    for shown in ("0.73 s", "0.303", "0.291", "1.452", "34 %", "5/11", "62 %", "340/512", "6.8k tok/s", "v12"):
        assert shown in step, shown
    assert "1:25" in text and str(tmp_path) in text


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_a_plain_line_fits_and_drops_the_least_important_metrics_first(columns: int) -> None:
    line = fitted(cells(config(), 12, STEP), columns)
    assert len(line) <= columns
    for shown in ("12/110", "0.303", "0.291", "1.452"):
        assert shown in line
    assert ("v12" in line) == (columns == 200)


def test_a_printed_line_fits_with_its_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in range(60, 160):
        monkeypatch.setenv("COLUMNS", str(columns))
        with make_tracker(Config(tracking=["console"])) as tracker:
            tracker.start(config(), tmp_path)
            capsys.readouterr()
            tracker.log(12, STEP)
        assert len(capsys.readouterr().out.rstrip("\n")) <= columns


def test_plain_lines_are_aligned() -> None:
    first = fitted(cells(config(), 1, STEP | {"explore/groups": 4, "replay/size": 8, "explore/difficult_frac": 0.06}), 200)
    later = fitted(cells(config(), 110, STEP), 200)
    for label in ("reward", "accuracy", "entropy", "difficult", "solved", "kept", "replay", "tok/s"):
        assert first.index(label) == later.index(label), label


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from uec.config.schema import Config
from uec.tracking.tracker import make_tracker
cfg = Config()
with make_tracker(cfg) as tracker:
    tracker.start(cfg, Path({str(tmp_path)!r}))
    for step in range(1, 301):
        tracker.log(step, {{"reward/mean": 0.5}})
"""
    run = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None and run.stderr is not None
    run.stdout.readline()
    run.stdout.close()
    assert (run.wait(30), run.stderr.read()) == (0, b"")
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 300


@pytest.mark.parametrize(
    ("opened", "end"),
    [
        ("with make_tracker(cfg) as tracker:", "return"),
        ("with make_tracker(cfg) as tracker:", "raise RuntimeError('an actor died')"),
        ("with make_tracker(cfg) as tracker:", "time.sleep(30)  # Ctrl-C"),
        ("for tracker in [make_tracker(cfg)]:", "sys.exit(3)"),
    ],
)
def test_the_terminal_is_restored_however_the_run_ends(tmp_path: Path, opened: str, end: str) -> None:
    script = f"""
import sys, time
from pathlib import Path
from uec.config.schema import Config
from uec.tracking.tracker import make_tracker
def run():
    cfg = Config()
    {opened}
        tracker.start(cfg, Path({str(tmp_path)!r}))
        tracker.log(1, {{"reward/mean": 0.5}})
        print("a stray line")
        tracker.event("ready")
        {end}
run()
"""
    terminal, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm-256color"}
    )
    os.close(theirs)
    said = b""
    interrupted = "Ctrl-C" not in end
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not interrupted and b"ready" in said:
            interrupted = True
            run.send_signal(signal.SIGINT)
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                said += os.read(terminal, 65536)
            except OSError:  # Linux: the other side has closed
                break
    os.close(terminal)
    run.wait(30)
    text = said.decode()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor"
    assert text.index("\x1b[?25h") > text.index("\x1b[?25l")
    assert "a stray line" in text
    if "raise" in end or "Ctrl-C" in end:
        assert text.index("Traceback") > text.index("\x1b[?25h"), "the error is printed on the restored terminal"


def test_logging_a_step_costs_the_driver_little_cpu_time(tmp_path: Path) -> None:
    with make_tracker(Config(tracking=["console", "jsonl"])) as tracker:
        tracker.start(config(), tmp_path)
        begin = time.thread_time()
        for step in range(1, 201):
            tracker.log(step, STEP)
        # Measured: 0.2 ms. A step of the default run takes 0.7 s, of which the driver may take 4 %.
        assert (time.thread_time() - begin) / 200 < 2e-3


def test_a_trend_is_bounded_and_keeps_its_shape() -> None:
    trend = Trend()
    for value in range(100_000):
        trend.add(float(value))
    assert len(trend.points) < LIMIT
    assert trend.points == sorted(trend.points)
    # 100,000 steps in points of 256: the first is the mean of 0 .. 255.
    assert trend.points[0] == 127.5


def test_a_sparkline_runs_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([3, 3], 8) == "▄▄"
    assert sparkline([], 8) == ""
    assert sparkline([1, 0], 8, ascii_only=True) == "#_"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (duration(9.4), "0:09"),
        (duration(59.6), "1:00"),
        (duration(3725), "1:02:05"),
        (count(950), "950"),
        (count(6812), "6.8k"),
        (count(999_960), "1.0M"),
        (count(None), "-"),
        (share(0.343), "34 %"),
        (share(None), "-"),
        (decimal(0.30273), "0.303"),
        (decimal(0.0), "0.000"),
        (decimal(2e-6), "2e-06"),
        (decimal(14.25, 1), "14.2"),
        (decimal(1234.5), "1234"),
        (decimal(123456.0), "1e+05"),
        (decimal(-0.25), "-0.250"),
    ],
)
def test_numbers_are_formatted_for_people(written: str, text: str) -> None:
    assert written == text
