"""`uec bench [NAMES]`: run the benches one after the other, print one table, write it as JSON."""

import ast
import difflib
import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from rich.console import Console

from bench import machine
from bench.machine import Machine
from bench.metric import Metric
from bench.table import Result, notes, table, write_json
from uec.errors import EXIT_FAILURE, BadInput, RunFailed
from uec.system.process_env import compiler_caches

NAMES = ("rollout", "learner", "shared", "entropy", "exchange", "step", "ahead", "algorithms", "exploration", "images")
ON_REQUEST = ("scale", "trl", "trl_solve", "paper")
"""Run only when named: scale takes long, trl installs packages that the project does not have, and paper measures nothing."""

WIDTH = 160  # of a table that is not printed to a terminal


Measure = Callable[[Path], list[Metric]]
"""A bench: it gets a folder for its logs and returns its metrics."""


def run(names: list[str], folder: Path = Path("runs")) -> int:
    """Run the benches named, or all of NAMES. Returns the exit status: 1 if one could not be measured; a missed target is no failure.

    Each bench is a module `bench.NAME` with a function `measure(scratch) -> list[Metric]`. Raises BadInput for an unknown name.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    _, results = measure_all({name: partial(_import_and_measure, name) for name in check(names)}, console, folder)
    console.print(table(results))
    for note in notes(results):
        console.print(note, highlight=False, markup=False)
    return status(results)


def measure_all(benches: Mapping[str, Measure], console: Console, folder: Path) -> tuple[Machine, list[Result]]:
    """Describe the machine, run the benches one after the other, and write their metrics as JSON. Logs stay if one failed."""
    os.environ.update(compiler_caches())
    described = machine.describe()
    console.print(f"{described}", highlight=False)
    if described.warning:
        console.print(f"[yellow]{described.warning}[/]", highlight=False)
    stem = f"bench-{time.strftime('%Y%m%d-%H%M%S')}"
    report, scratch = folder / f"{stem}.json", (folder / stem).resolve()
    results: list[Result] = []
    for name, measure in benches.items():
        console.print(f"{name}: {summary(name)}", highlight=False, markup=False)
        results.append(_measure(name, measure, scratch / name))
        console.print(f"{name}: {results[-1].error or 'done'}, {results[-1].seconds:.0f} s", highlight=False, markup=False)
        write_json(report, described, results)  # after each bench, because a later one may be interrupted
    console.print(f"written to {report}", highlight=False)
    if status(results):
        console.print(f"logs are in {scratch}", highlight=False)
    else:
        shutil.rmtree(scratch, ignore_errors=True)
    return described, results


def status(results: list[Result]) -> int:
    """Return the exit status: 1 if one could not be measured."""
    return EXIT_FAILURE if any(result.error for result in results) else 0


def _import_and_measure(name: str, scratch: Path) -> list[Metric]:
    metrics: list[Metric] = importlib.import_module(f"bench.{name}").measure(scratch)
    return metrics


def _measure(name: str, measure: Measure, scratch: Path) -> Result:
    scratch.mkdir(parents=True)
    begin = time.perf_counter()
    metrics: list[Metric] = []
    error = ""
    try:
        metrics = measure(scratch)
    except RunFailed as failure:
        error = str(failure)
    return Result(name, time.perf_counter() - begin, metrics, error)


def check(names: list[str]) -> list[str]:
    """Return the benches to run, each once. Raises BadInput with a list of all benches."""
    for name in names:
        if name not in NAMES + ON_REQUEST:
            close = difflib.get_close_matches(name, NAMES + ON_REQUEST, n=1)
            meant = f"; did you mean {close[0]}?" if close else "."
            raise BadInput(f"there is no bench {name!r}{meant} There is:\n{listing()}")
    return list(dict.fromkeys(names)) or list(NAMES)


def listing() -> str:
    """Return a line for each bench: its name and what it measures."""
    lines = [f"{name:<12} {summary(name)}" for name in NAMES]
    return "\n".join(lines + [f"{name:<12} {summary(name)} (only when named)" for name in ON_REQUEST])


def summary(name: str) -> str:
    """Return the first line of a bench's docstring without importing the bench, which would import Ray."""
    here = Path(__file__).parent
    file = here / f"{name}.py"
    source = file if file.exists() else here / name / "__init__.py"
    return (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n")[0]
