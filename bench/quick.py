"""`uec bench --quick`: measure few pairs of the benches that give ratios, and compare them with the last committed results."""

import sys
from functools import partial
from pathlib import Path

from rich.console import Console

from bench import ahead, entropy, exploration, guard, learner, rollout, shared
from bench.run import WIDTH, Measure, measure_all, status
from uec.errors import EXIT_FAILURE

BENCHES: dict[str, Measure] = {
    "rollout": partial(rollout.measure, pairs=4, sides=rollout.SIDES[:1]),
    "learner": partial(learner.measure, pairs=4),
    "shared": partial(shared.measure, pairs=3, groups=4),
    "entropy": partial(entropy.measure, pairs=3),
    "ahead": partial(ahead.measure, pairs=2),
    "exploration": partial(exploration.skewed, pairs=3),
}


def run(record: bool, folder: Path = Path("runs"), committed: Path = guard.RESULTS) -> int:
    """Print committed and new ratios. Returns the exit status: 1 if one fell by guard.FALL twice in a row or could not be measured.

    `record`: write them to `committed` instead of comparing them.
    """
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    machine, results = measure_all(BENCHES, console, folder)
    by_processor = guard.read(committed)
    then = by_processor.get(machine.cpu, {})
    found = guard.changes(results, then)
    if record:
        guard.record(found, machine, committed)
        console.print(guard.table(found))
        console.print(f"written to {committed}; commit it", highlight=False)
        return status(results)
    suspects = [result.bench for result in results if any(change.fell for change in guard.changes([result], then))]
    if suspects:
        console.print(f"once more, to be sure: {', '.join(suspects)}", highlight=False)
        _, again = measure_all({name: BENCHES[name] for name in suspects}, console, folder)
        found = guard.better(found, guard.changes(again, then))
    console.print(guard.table(found))
    if not then:
        known = ", ".join(sorted(by_processor)) or "none"
        console.print(
            f"no ratios of this processor, {machine.cpu}, are committed (there are: {known}): nothing was compared. "
            "`uec bench --quick --record` writes them",
            highlight=False,
        )
    for row in sorted(then.keys() - {change.row for change in found}):
        console.print(f"committed, and not measured now: {row}", highlight=False)
    return EXIT_FAILURE if any(change.fell for change in found) else status(results)
