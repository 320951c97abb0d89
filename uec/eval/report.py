"""What an evaluation says at its end: a table for the console, and summary.json."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from uec.eval.estimate import Estimate
from uec.eval.figures import Figure, Part
from uec.system.files import atomic_write
from uec.tracking.figures import MISSING

UNITS = {"entropy": "nats", "response length": "tokens"}
SHOWN_OF_A_PART = ("pass@", "majority@")


@dataclass(frozen=True)
class Report:
    """An evaluation's outcome."""

    title: str
    models: list[str]
    parts: list[Part]  # the whole set first
    notes: list[str]
    settings: dict[str, Any]

    def write(self, path: Path) -> None:
        """As JSON. Figures are by name, then by model; an interval is [low, high], of 95 %."""
        content = {
            "title": self.title,
            "models": self.models,
            "settings": self.settings,
            "parts": [
                {"title": part.title, "prompts": part.prompts, "figures": {one.name: self._figure(one) for one in part.figures}}
                for part in self.parts
            ],
            "notes": self.notes,
        }
        atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n")

    def _figure(self, figure: Figure) -> dict[str, Any]:
        return {
            model: None if value is None else asdict(value) | ({} if delta is None else {"difference": asdict(delta)})
            for model, value, delta in zip(self.models, figure.values, figure.differences, strict=True)
        }

    def show(self, console: Console) -> None:
        """A table with a column a model."""
        whole, *parts = self.parts
        grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        grid.add_column("", overflow="fold")
        for number, model in enumerate(self.models):
            grid.add_column(Text(model if number == 0 else f"{model}\ndifference below"), justify="right", overflow="fold")
        for figure in whole.figures:
            grid.add_row(*self._row(figure))
        for part in parts:
            grid.add_section()
            grid.add_row(Text(f"{part.title}: {plural(part.prompts, 'prompt')}", style="italic"))
            for figure in part.figures:
                if figure.name.startswith(SHOWN_OF_A_PART):
                    grid.add_row(*self._row(figure))
        console.print(Text(f"\n{self.title}\n", style="bold"), soft_wrap=True)
        console.print(grid, "")
        for note in self.notes:
            console.print(Text(note, style="dim"), soft_wrap=True)

    def _row(self, figure: Figure) -> list[Text]:
        digits = 1 if figure.name == "response length" else 3
        name = f"{figure.name}, {UNITS[figure.name]}" if figure.name in UNITS else figure.name
        cells = [Text(name)]
        for value, delta in zip(figure.values, figure.differences, strict=True):
            cell = Text(_interval(value, digits), style="")
            if delta is not None:
                cell.append("\n" + _interval(delta, digits, sign="+"), style=_colour(figure, delta))
            cells.append(cell)
        return cells


def console(width: int | None = None) -> Console:
    """On a terminal as wide as that, else wide enough for two models and without control characters."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=width or 120, no_color=True, force_terminal=False)


def _interval(estimate: Estimate | None, digits: int, sign: str = "") -> str:
    if estimate is None:
        return MISSING
    return f"{estimate.value:{sign}.{digits}f} [{estimate.low:{sign}.{digits}f}, {estimate.high:{sign}.{digits}f}]"


def _colour(figure: Figure, delta: Estimate) -> str:
    """Only of solving does everybody agree which way is up, and only an interval without zero says so."""
    if not figure.name.startswith(SHOWN_OF_A_PART):
        return ""
    return "green" if delta.low > 0 else "red" if delta.high < 0 else ""


def plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
