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
from bench.figure import Figure
from bench.machine import Machine
from bench.table import Result, notes, table, write_json
from uec.errors import EXIT_FAILURE, BadInput, RunFailed
from uec.system.process_env import compiler_caches

NAMES = ("rollout", "learner", "shared", "entropy", "exchange", "step", "ahead", "algorithms", "exploration", "images")
ON_REQUEST = ("scale", "trl", "trl_solve", "paper")
"""Run only when named: scale takes long, what trl needs is not installed with the project, and paper measures nothing."""

WIDTH = 160  # of a table that goes to no terminal


Measure = Callable[[Path], list[Figure]]
"""What a bench is: given a folder for its logs, it measures its figures."""


def run(names: list[str], folder: Path = Path("runs")) -> int:
    """Run the benches named, or all of NAMES. Returns the exit status: 1 if one could not be measured; a missed target is none.

    Each bench is a module `bench.NAME` with a function `measure(scratch) -> list[Figure]`. Raises BadInput for an unknown name.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    _, results = measure_all({name: partial(_import_and_measure, name) for name in check(names)}, console, folder)
    console.print(table(results))
    for note in notes(results):
        console.print(note, highlight=False, markup=False)
    return status(results)


def measure_all(benches: Mapping[str, Measure], console: Console, folder: Path) -> tuple[Machine, list[Result]]:
    """Look at the machine, then run the benches one after the other, and write what they gave as JSON. Logs stay if one failed."""
    os.environ.update(compiler_caches())
    surroundings = machine.look()
    console.print(f"{surroundings}", highlight=False)
    if surroundings.warning:
        console.print(f"[yellow]{surroundings.warning}[/]", highlight=False)
    stem = f"bench-{time.strftime('%Y%m%d-%H%M%S')}"
    report, scratch = folder / f"{stem}.json", (folder / stem).resolve()
    results: list[Result] = []
    for name, measure in benches.items():
        console.print(f"{name}: {summary(name)}", highlight=False, markup=False)
        results.append(_measure(name, measure, scratch / name))
        console.print(f"{name}: {results[-1].error or 'done'}, {results[-1].seconds:.0f} s", highlight=False, markup=False)
        write_json(report, surroundings, results)  # each time: a later bench may be interrupted
    console.print(f"written to {report}", highlight=False)
    if status(results):
        console.print(f"logs are in {scratch}", highlight=False)
    else:
        shutil.rmtree(scratch, ignore_errors=True)
    return surroundings, results


def status(results: list[Result]) -> int:
    """Exit status: whether all were measured."""
    return EXIT_FAILURE if any(result.error for result in results) else 0


def _import_and_measure(name: str, scratch: Path) -> list[Figure]:
    figures: list[Figure] = importlib.import_module(f"bench.{name}").measure(scratch)
    return figures


def _measure(name: str, measure: Measure, scratch: Path) -> Result:
    scratch.mkdir(parents=True)
    begin = time.perf_counter()
    figures: list[Figure] = []
    error = ""
    try:
        figures = measure(scratch)
    except RunFailed as failure:
        error = str(failure)
    return Result(name, time.perf_counter() - begin, figures, error)


def check(names: list[str]) -> list[str]:
    """The benches to run, each once. Raises BadInput that lists what there is."""
    for name in names:
        if name not in NAMES + ON_REQUEST:
            close = difflib.get_close_matches(name, NAMES + ON_REQUEST, n=1)
            meant = f"; did you mean {close[0]}?" if close else "."
            raise BadInput(f"there is no bench {name!r}{meant} There is:\n{listing()}")
    return list(dict.fromkeys(names)) or list(NAMES)


def listing() -> str:
    """The benches with what each measures, a line each."""
    lines = [f"{name:<12} {summary(name)}" for name in NAMES]
    return "\n".join(lines + [f"{name:<12} {summary(name)} (only when named)" for name in ON_REQUEST])


def summary(name: str) -> str:
    """First line of a bench's docstring, read without importing it: the benches import Ray."""
    here = Path(__file__).parent
    file = here / f"{name}.py"
    source = file if file.exists() else here / name / "__init__.py"
    return (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n")[0]
