"""`uec bench --quick`: which change counts as a fall, and the committed results."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from bench import guard
from bench.guard import Change, better, changes
from bench.machine import Machine
from bench.metric import Metric, Reference, Target
from bench.table import Result
from uec.commands.cli import main
from uec.errors import EXIT_BAD_INPUT

AT_LEAST, AT_MOST = Target(0.9, at_most=False), Target(0.8)


def result(ratio: float, target: Target | None = AT_LEAST, what: str = "actor") -> Result:
    return Result("rollout", 1.0, [Metric(what, 80.0, "tokens/s", target, Reference("bare", 100.0, ratio, ratio, ratio, 1))])


def machine(cpu: str) -> Machine:
    return Machine(cpu, 2, 16.0, 0.1, 0.02, "3.11.9", {"ray": "2.60.0"})


def change(now: float, then: float | None, at_most: bool = False) -> Change:
    return Change("rollout, actor", now, then, at_most)


@pytest.mark.parametrize(("now", "fell"), [(0.851, False), (0.849, True), (1.3, False)])
def test_a_ratio_that_should_be_large_falls_by_losing_15_percent(now: float, fell: bool):
    assert change(now, 1.0).fell is fell


@pytest.mark.parametrize(("now", "fell"), [(1.149, False), (1.151, True), (0.5, False)])
def test_a_ratio_that_should_be_small_falls_by_gaining_15_percent(now: float, fell: bool):
    assert change(now, 1.0, at_most=True).fell is fell


def test_the_loss_is_a_share_of_the_committed_ratio():
    assert change(2.1, 2.8).loss == pytest.approx(0.25)
    assert change(0.7, 0.56, at_most=True).loss == pytest.approx(0.25)
    assert change(0.56, 0.7, at_most=True).loss == pytest.approx(-0.2)


def test_a_row_that_was_never_committed_cannot_have_fallen():
    new = change(0.01, None)
    assert (new.loss, new.fell) == (0.0, False)


def test_rows_are_compared_by_bench_and_name_and_the_target_says_which_way_is_down():
    then = {"rollout, actor": 0.9, "rollout, step": 0.7}
    large, small, untargeted = (changes([one], then)[0] for one in (result(0.8), result(0.8, AT_MOST, "step"), result(0.8, None)))
    assert (large.then, large.at_most, untargeted.at_most) == (0.9, False, False)
    assert (small.then, small.at_most) == (0.7, True)


def test_metrics_without_a_ratio_of_one_run_are_left_out():
    assert changes([Result("exchange", 1.0, [Metric("whole", 20.0, "ms", Target(50.0))]), Result("step", 1.0, error="died")], {}) == []


def test_of_two_measurements_the_better_one_counts():
    slow, fine = change(0.7, 1.0), change(0.95, 1.0)
    assert better([slow], [fine]) == [fine] and better([fine], [slow]) == [fine] and better([slow], []) == [slow]
    assert better([change(1.3, 1.0, at_most=True)], [change(1.0, 1.0, at_most=True)])[0].now == 1.0


def test_the_table_shows_then_now_and_change_and_names_what_fell():
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(guard.table([change(0.8, 1.0), Change("learner, update", 1.02, 1.0, False), Change("ahead, step", 0.6, None, True)]))
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in console.export_text().splitlines() if line.startswith("│")]
    assert lines == [
        ["rollout, actor", "1.00", "0.80", "-20.0 %", "fell"],
        ["learner, update", "1.00", "1.02", "+2.0 %", ""],
        ["ahead, step", "", "0.60", "new", ""],
    ]


def test_what_is_recorded_is_what_is_read(tmp_path: Path):
    path = tmp_path / "results/ratios.json"
    assert guard.read(path) == {}
    guard.record([change(0.91234, None)], machine("Some CPU"), path)
    guard.record([change(0.5, None)], machine("Another"), path)
    assert guard.read(path) == {"Some CPU": {"rollout, actor": 0.912}, "Another": {"rollout, actor": 0.5}}
    guard.record([change(0.6, None)], machine("Another"), path)
    assert guard.read(path) == {"Some CPU": {"rollout, actor": 0.912}, "Another": {"rollout, actor": 0.6}}
    assert json.loads(path.read_text())["Some CPU"]["machine"].startswith("2 cores of Some CPU")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run the quick bench on given ratios, one for each time that it runs."""
    from bench import quick

    def run(*ratios: float, record: bool = False, cpu: str = "Some CPU") -> tuple[int, int]:
        """Return the exit status and how often the bench ran."""
        monkeypatch.setattr("bench.machine.describe", lambda: machine(cpu))
        left = list(ratios)
        monkeypatch.setattr(quick, "BENCHES", {"rollout": lambda scratch: result(left.pop(0)).metrics})
        return quick.run(record, tmp_path, tmp_path / "ratios.json"), len(ratios) - len(left)

    return run


def test_a_fall_is_measured_twice_and_then_has_exit_status_1(quick):
    assert quick(0.9, record=True) == (0, 1)
    assert quick(0.9) == (0, 1)
    assert quick(0.7, 0.7) == (1, 2)
    assert quick(0.7, 0.88) == (0, 2)


def test_ratios_of_another_processor_are_not_compared(quick, capsys):
    assert quick(0.9, record=True) == (0, 1)
    assert quick(0.5, cpu="Another CPU") == (0, 1)
    said = " ".join(capsys.readouterr().out.split())
    assert "no ratios of this processor, Another CPU, are committed (there are: Some CPU): nothing was compared" in said


def test_recording_compares_nothing_and_replaces_the_committed_ratios(quick):
    assert quick(0.9, record=True) == (0, 1)
    assert quick(0.5, record=True) == (0, 1)
    assert quick(0.5) == (0, 1)


@pytest.mark.parametrize("arguments", [["--record"], ["--quick", "rollout"]])
def test_arguments_that_do_not_go_together_are_bad_input(arguments: list[str], capsys):
    assert main(["bench", *arguments]) == EXIT_BAD_INPUT
    assert "--quick" in capsys.readouterr().err


def test_the_committed_results_are_ratios_of_the_quick_benches():
    from bench.quick import BENCHES

    found = guard.read(guard.RESULTS)
    assert found
    for ratios in found.values():
        assert ratios and all(row.split(",")[0] in BENCHES and ratio > 0 for row, ratio in ratios.items())
