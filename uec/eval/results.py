"""The results of an evaluation: a table for the console, and summary.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from uec.config.fields import texts
from uec.eval.estimate import Estimate
from uec.eval.fingerprint import settings_fingerprint
from uec.eval.measures import MetricRow, SubsetMetrics, measure_subsets, measures
from uec.eval.predictions import Predictions
from uec.eval.settings import Candidate
from uec.eval.subsets import by_difficulty
from uec.rewards.reward_function import extractor, list_names
from uec.system.files import atomic_write
from uec.tracking.number_format import MISSING
from uec.types import Prompt

UNITS = {"entropy": "nats", "response length": "tokens"}
SHOWN_FOR_SUBSETS = ("pass@", "majority@")
PLAIN_WIDTH = 120  # characters, where stdout is no terminal: enough for two models


@dataclass(frozen=True)
class Results:
    """The results of an evaluation, for all models."""

    title: str
    models: list[str]
    subsets: list[SubsetMetrics]  # the whole set first
    notes: list[str]
    settings: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write JSON. Metrics are by name, then by model; an interval is [low, high], of 95 %."""
        content = {
            "title": self.title,
            "models": self.models,
            "settings": self.settings,
            "parts": [
                {"title": subset.title, "prompts": subset.prompts, "figures": {row.name: self._by_model(row) for row in subset.metrics}}
                for subset in self.subsets
            ],
            "notes": self.notes,
        }
        atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n")

    def _by_model(self, row: MetricRow) -> dict[str, Any]:
        return {
            model: None if value is None else asdict(value) | ({} if delta is None else {"difference": asdict(delta)})
            for model, value, delta in zip(self.models, row.values, row.differences, strict=True)
        }

    def show(self, console: Console) -> None:
        """Print a table with one column for each model."""
        whole, *subsets = self.subsets
        grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        grid.add_column("", overflow="fold")
        for number, model in enumerate(self.models):
            grid.add_column(Text(model if number == 0 else f"{model}\ndifference below"), justify="right", overflow="fold")
        for row in whole.metrics:
            grid.add_row(*_cells(row))
        for subset in subsets:
            grid.add_section()
            grid.add_row(Text(f"{subset.title}: {plural(subset.prompts, 'prompt')}", style="italic"))
            for row in subset.metrics:
                if row.name.startswith(SHOWN_FOR_SUBSETS):
                    grid.add_row(*_cells(row))
        console.print(Text(f"\n{self.title}\n", style="bold"), soft_wrap=True)
        console.print(grid, "")
        for note in self.notes:
            console.print(Text(note, style="dim"), soft_wrap=True)


def make_results(
    candidates: Sequence[Candidate],
    prompts: Sequence[list[Prompt]],
    found: Sequence[Predictions],
    subsets: list[tuple[str, list[int]]] | None,
) -> Results:
    """Compute the results. `prompts` and `found` are each model's. `subsets`: None for subsets by difficulty for the first model."""
    cfg, first = candidates[0].cfg, candidates[0].target.label
    votes = extractor(cfg.reward.fn) is not None
    asked = [{prompt.index for prompt in model} for model in prompts]
    groups = [{index: group for index, group in one.groups.items() if index in model} for one, model in zip(found, asked, strict=True)]
    k = sorted(set(cfg.eval.k))
    divided = [("all", sorted(set().union(*asked))), *(subsets if subsets is not None else by_difficulty(groups[0]))]
    notes = ["[ , ]: 95 % interval, by bootstrap over prompts"]
    if len(candidates) > 1:
        notes[0] += "; of a difference: over pairs, the same prompts for both models"
    if subsets is None:
        notes.append(f"difficulty: how many of a prompt's {cfg.eval.n} responses {first} has right")
    if not votes and max(k) > 1:
        names = ", ".join(Path(name).name for name in list_names(cfg.reward.fn))
        notes.append(f"majority@k is not defined for reward.fn={names}: of the graders only boxed and exact compare one extracted answer")
    for candidate, model in zip(candidates[1:], asked[1:], strict=True):
        if model != asked[0]:
            shared = plural(len(model & asked[0]), "prompt")
            notes.append(
                f"{candidate.target.label} and {first} share {shared}, over which their difference is taken; others were too long for one"
            )
    data = ", ".join(Path(source).name for source in texts(cfg.data.eval))
    return Results(
        title=f"{plural(len(asked[0]), 'prompt')} of {data}, {cfg.eval.n} responses each at temperature {cfg.eval.temperature:g}",
        models=[candidate.target.label for candidate in candidates],
        subsets=measure_subsets(groups, divided, measures(groups, k, votes)),
        notes=notes,
        settings={**settings_fingerprint(cfg), "data": data, "models": [one.target.given for one in candidates]},
    )


def results_console() -> Console:
    """Return a console with the terminal's width, or with PLAIN_WIDTH and without control characters if stdout is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH, no_color=True, force_terminal=False)


def plural(number: int, word: str) -> str:
    """Return the number with the word in its singular or plural."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _cells(row: MetricRow) -> list[Text]:
    digits = 1 if row.name == "response length" else 3
    name = f"{row.name}, {UNITS[row.name]}" if row.name in UNITS else row.name
    cells = [Text(name)]
    for value, delta in zip(row.values, row.differences, strict=True):
        cell = Text(_interval(value, digits), style="")
        if delta is not None:
            cell.append("\n" + _interval(delta, digits, sign="+"), style=_colour(row, delta))
        cells.append(cell)
    return cells


def _interval(estimate: Estimate | None, digits: int, sign: str = "") -> str:
    if estimate is None:
        return MISSING
    return f"{estimate.value:{sign}.{digits}f} [{estimate.low:{sign}.{digits}f}, {estimate.high:{sign}.{digits}f}]"


def _colour(row: MetricRow, delta: Estimate) -> str:
    """Return a colour if higher is better and the interval excludes zero."""
    if not row.name.startswith(SHOWN_FOR_SUBSETS):
        return ""
    return "green" if delta.low > 0 else "red" if delta.high < 0 else ""
