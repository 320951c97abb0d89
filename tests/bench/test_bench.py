"""`uec bench`: its arithmetic, table and processes, and one whole bench."""

import ast
import asyncio
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from bench import run, simulated_engine
from bench.bare import Bare
from bench.machine import Machine
from bench.metric import MEETS, MISSES, Metric, Target, compared
from bench.processes import cpu_seconds, memory_bytes, tree
from bench.simulated_engine import FixedDifficulty, SimulatedEngine, response_lengths
from bench.table import Result, notes, number, table
from bench.trl import environment
from bench.turns import Block, in_turns, total
from uec.commands.cli import main
from uec.errors import EXIT_BAD_INPUT, EXIT_FAILURE, BadInput, RunFailed
from uec.types import Kind, Outcome, Prompt, Request, ScheduleState

AT_LEAST_90 = Target(0.90, at_most=False)


def blocks(*rates: float, cpu_s: float = 0.0) -> list[Block]:
    """Return blocks of 1000 tokens at these rates."""
    return [Block(1000 / rate, 1000, cpu_s) for rate in rates]


def rate(block: Block) -> float:
    return block.rate


def idle_machine(busy: float = 0.02) -> Machine:
    return Machine("Some CPU", 2, 16.0, 0.1, busy, "3.11.9", {"ray": "2.60.0"})


# --- metrics


def test_the_ratio_is_the_median_of_the_pairs_and_not_the_ratio_of_medians():
    metric = compared("ours", blocks(10, 40, 90), blocks(20, 10, 100), rate, "tokens/s", "bare", AT_LEAST_90)
    assert metric.value == pytest.approx(40)
    reference = metric.reference
    assert (reference.value, reference.ratio, reference.low, reference.high) == pytest.approx((20, 0.9, 0.5, 4.0))
    assert reference.pairs == 3


def test_the_ratio_by_cpu_time_compares_tokens_a_second_of_cpu_time():
    metric = compared("ours", blocks(10, 10, cpu_s=2.0), blocks(40, 40, cpu_s=1.0), rate, "tokens/s", "bare", AT_LEAST_90)
    assert metric.reference.cpu_ratio == pytest.approx(0.5)
    assert compared("ours", blocks(10), blocks(40), rate, "tokens/s", "bare", AT_LEAST_90).reference.cpu_ratio is None


def test_a_target_judges_the_ratio_where_there_is_a_reference_and_else_the_value():
    nearly = compared("ours", blocks(89), blocks(100), rate, "tokens/s", "bare", AT_LEAST_90)
    exactly = compared("ours", blocks(90), blocks(100), rate, "tokens/s", "bare", Target(0.9 - 1e-9, at_most=False))
    assert (nearly.verdict, exactly.verdict) == (MISSES, MEETS)
    assert Metric("exchange", 50.0, "ms", Target(50.0)).verdict == MEETS
    assert Metric("exchange", 50.1, "ms", Target(50.0)).verdict == MISSES
    assert Metric("tokens", 50.0, "").verdict == ""


def test_the_ratio_of_a_metric_without_reference_is_that_to_its_target():
    assert Metric("exchange", 20.0, "ms", Target(50.0)).ratio == pytest.approx(0.4)
    assert Metric("tokens", 50.0, "").ratio is None


def test_blocks_add_up_and_their_rates_are_of_the_whole():
    block = total([Block(1.0, 100, 0.5), Block(3.0, 500, 1.0)])
    assert block == Block(4.0, 600, 1.5)
    assert (block.rate, block.cost, block.cpu_rate) == pytest.approx((150, 4 / 0.6, 400))


def test_the_two_sides_take_turns_and_the_first_pair_is_not_counted():
    calls = []

    async def ours(k: int) -> Block:
        calls.append(("ours", k))
        return Block(len(calls), 1)

    def theirs(k: int) -> Block:
        calls.append(("theirs", k))
        return Block(len(calls), 1)

    mine, others = asyncio.run(in_turns(ours, theirs, pairs=2))
    assert calls == [("ours", 0), ("theirs", 0), ("ours", 0), ("theirs", 0), ("ours", 1), ("theirs", 1)]
    assert [block.seconds for block in mine] == [3, 5]
    assert [block.seconds for block in others] == [4, 6]


# --- table and report


@pytest.mark.parametrize(("value", "text"), [(0.0213, "0.0213"), (0.75, "0.75"), (12.44, "12.4"), (829.6, "830"), (15234.0, "15.2k")])
def test_values_show_three_significant_digits(value: float, text: str):
    assert number(value) == text


def test_the_table_has_value_reference_target_ratio_and_verdict_in_a_row():
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    results = [
        Result("rollout", 1.0, [compared("actor", blocks(80), blocks(100), rate, "tokens/s", "bare vLLM", AT_LEAST_90, "said once")]),
        Result("exchange", 1.0, [Metric("whole", 20.0, "ms", Target(50.0))]),
        Result("step", 1.0, error="learner-0 failed: out of memory\nlast lines"),
    ]
    console.print(table(results))
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in console.export_text().splitlines() if line.startswith("│")]
    assert lines == [
        ["rollout", "actor", "80 tokens/s", "bare vLLM: 100 tokens/s", "ratio ≥ 0.9", "0.80 (0.80 to 0.80)", "misses"],
        ["exchange", "whole", "20 ms", "", "≤ 50 ms", "0.40", "meets"],
        ["step", "learner-0 failed: out of memory", "", "", "", "", "failed"],
    ]
    assert notes(results) == ["rollout, actor: said once", "step failed: learner-0 failed: out of memory\nlast lines"]


def test_a_busy_machine_is_warned_of_and_an_idle_one_is_not():
    assert "41 % of its CPU time" in idle_machine(busy=0.41).warning
    assert idle_machine(busy=0.05).warning == ""


def test_benches_go_on_after_one_that_fails_and_the_report_holds_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    def failing(scratch: Path) -> list[Metric]:
        (scratch / "log").write_text("why")
        raise RunFailed("the engine died")

    monkeypatch.setattr(run.machine, "describe", idle_machine)
    monkeypatch.setitem(sys.modules, "bench.rollout", SimpleNamespace(measure=failing))
    monkeypatch.setitem(sys.modules, "bench.exchange", SimpleNamespace(measure=lambda scratch: [Metric("whole", 60.0, "ms", Target(50.0))]))
    assert run.run(["rollout", "exchange"], tmp_path) == EXIT_FAILURE
    [report], [scratch] = tmp_path.glob("bench-*.json"), [path for path in tmp_path.iterdir() if path.is_dir()]
    failed, measured = json.loads(report.read_text())["benches"]
    assert (failed["bench"], failed["error"], failed["figures"]) == ("rollout", "the engine died", [])
    assert (measured["figures"][0]["value"], measured["figures"][0]["verdict"]) == (60.0, MISSES)
    assert (scratch / "rollout/log").read_text() == "why"
    assert str(scratch) in capsys.readouterr().out.replace("\n", "")


def test_a_missed_target_is_no_failure_and_the_scratch_folder_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run.machine, "describe", idle_machine)
    monkeypatch.setitem(sys.modules, "bench.exchange", SimpleNamespace(measure=lambda scratch: [Metric("whole", 60.0, "ms", Target(50.0))]))
    assert run.run(["exchange"], tmp_path) == 0
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


# --- names


def test_an_unknown_bench_is_bad_input_that_lists_them_all(capsys):
    assert main(["bench", "rolout"]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "'rolout'; did you mean rollout?" in said
    assert all(f"\n     {name} " in said for name in run.NAMES + run.ON_REQUEST)


def test_no_name_means_all_except_those_that_need_a_separate_environment():
    assert run.check([]) == list(run.NAMES)
    assert run.check(["trl", "step", "trl"]) == ["trl", "step"]
    with pytest.raises(BadInput):
        run.check(["step", "nonsense"])


@pytest.mark.parametrize("name", run.NAMES + run.ON_REQUEST)
def test_every_bench_says_what_it_measures_and_has_a_measure_function(name: str, project: Path):
    assert run.summary(name).endswith(".")
    folder = project / "bench"
    source = (folder / f"{name}.py" if (folder / f"{name}.py").exists() else folder / name / "__init__.py").read_text()
    assert "measure" in [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]


def test_every_bench_can_be_imported_and_has_a_measure():
    for name in run.NAMES + run.ON_REQUEST:
        assert callable(importlib.import_module(f"bench.{name}").measure), name


def test_the_docs_name_every_bench(project: Path):
    text = (project / "docs/performance.md").read_text()
    assert [name for name in run.NAMES + run.ON_REQUEST if f"`{name}`" not in text] == []


# --- processes


def test_the_bare_side_is_made_called_and_ended_in_another_process(tmp_path: Path):
    with Bare("collections:Counter", (["a", "b", "a"],), {}, tmp_path / "log") as bare:
        assert bare.call("most_common", 1) == [("a", 2)]
        process = bare._process
        with pytest.raises(RunFailed, match="AttributeError"):
            bare.call("nonsense")
        assert process.poll() is None
    assert process.poll() is not None


def test_the_bare_side_takes_its_children_with_it_and_its_death_is_named(tmp_path: Path):
    with Bare("subprocess:Popen", (["sleep", "60"],), {}, tmp_path / "log") as bare:
        bare.ready()
        [child] = psutil.Process(bare._process.pid).children()
    gone, alive = psutil.wait_procs([child], timeout=5)
    assert gone and not alive
    with Bare("os:_exit", (3,), {}, tmp_path / "log") as bare, pytest.raises(RunFailed, match="ended with status 3"):
        bare.ready()


def test_memory_and_cpu_time_are_those_of_the_whole_tree():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    leaf = "x = bytearray(b'x') * (64 << 20)\nfor _ in range(3_000_000): pass\nprint(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code, leaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert memory_bytes(process.pid) > 64 << 20
        assert len(tree(process.pid)) == 2
        assert cpu_seconds(tree(process.pid)) > cpu_seconds(tree(process.pid)[:1]) > 0
        process.communicate(b"\n")
    assert (tree(process.pid), memory_bytes(process.pid)) == ([], 0)


def test_the_environment_of_trl_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(environment, "_run", lambda command: calls.append(command) or environment.folder().mkdir(exist_ok=True))
    python = environment.ready()
    assert python.is_relative_to(tmp_path / "uec-rl")
    assert [command[1:3] for command in calls] == [["-m", "venv"], ["-m", "pip"]]
    assert environment.ready() == python and len(calls) == 2


# --- the simulated engine


def test_the_simulated_engine_yields_every_response_once_in_the_order_of_lengths(make_config):
    cfg = make_config("rollout.max_tokens=30")
    engine = SimulatedEngine(cfg, 0)
    requests = [Request(7, 0, 8, 1.0, Kind.REGULAR), Request(8, 1, 4, 1.2, Kind.EXPLORATION)]

    async def answers() -> list[list]:
        await engine.start([Prompt(i, "", [1, 2], "", {}) for i in range(2)])
        return [batch async for batch in engine.generate(requests)]

    trajectories = [trajectory for batch in asyncio.run(answers()) for trajectory in batch]
    assert sorted((one.group, one.index) for one in trajectories) == [(7, i) for i in range(8)] + [(8, i) for i in range(4)]
    lengths = [len(one.tokens) for one in trajectories]
    assert lengths == sorted(lengths) and max(lengths) == 30
    assert sorted(lengths) == sorted(response_lengths(requests[0], 30) + response_lengths(requests[1], 30))
    assert [one.truncated for one in trajectories] == [length == 30 for length in lengths]


def test_the_fixed_difficulty_explores_every_third_prompt_once(make_config):
    difficulty = FixedDifficulty(make_config("exploration.n=16"))
    kinds = [Kind.REGULAR] * 4 + [Kind.EXPLORATION]
    outcomes = [Outcome(prompt, kind, 8, 0, 0.0) for prompt, kind in zip([0, 1, 2, 3, 3], kinds, strict=True)]
    verdicts = difficulty.classify(outcomes, ScheduleState(0.0, True))
    assert [verdict.difficult for verdict in verdicts] == [True, False, False, True, False]
    assert verdicts[0].n == 16


@pytest.mark.long
@pytest.mark.e2e
def test_the_exploration_bench_measures_both_orders_of_work_on_simulated_lengths(tmp_path: Path):
    from bench.exploration import LONGEST, skewed

    [metric] = skewed(tmp_path, pairs=1)
    regular = [max(response_lengths(Request(0, prompt, 8, 1.0, Kind.REGULAR), LONGEST)) for prompt in range(32)]
    explored = {
        p: max(response_lengths(Request(0, p, 16, 1.2, Kind.EXPLORATION), LONGEST)) for p in range(0, 32, simulated_engine.DIFFICULT_EVERY)
    }
    longest_way = max(*regular, *(regular[prompt] + length for prompt, length in explored.items()))
    step_s = simulated_engine.STEP_S
    assert metric.value >= step_s * longest_way
    # One phase after the other can be no faster than its two longest responses; streamed can.
    assert metric.reference.value >= step_s * (max(regular) + max(explored.values())) > step_s * longest_way
    assert metric.reference.pairs == 1
