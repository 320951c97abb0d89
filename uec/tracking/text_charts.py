"""Charts made of characters: progress bars, divided bars with a legend, and sparklines."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-:=+*#"
LIMIT = 512  # points, more than a terminal has columns


@dataclass(frozen=True, slots=True)
class Pen:
    """The terminal's width and capabilities."""

    width: int  # characters
    ascii_only: bool = False
    colour: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a divided bar."""

    name: str
    short: str
    amount: float
    style: str
    block: str  # distinguishes the parts without colours
    ascii_block: str

    def mark(self, pen: Pen) -> str:
        if pen.ascii_only:
            return self.ascii_block
        return "█" if pen.colour else self.block


def fill_bar(done: float, total: float, width: int, style: str, pen: Pen) -> Text:
    """Return a bar of `width` characters, filled to done/total."""
    full = round(width * min(1.0, max(0.0, done / total if total else 0.0)))
    mark, rest = ("#", ".") if pen.ascii_only else ("━", "━" if pen.colour else "┄")
    return Text.assemble((mark * full, style), (rest * (width - full), "dim"))


def split_bar(parts: Sequence[Part], width: int, pen: Pen) -> Text:
    """Return a bar of `width` characters, divided in proportion to the parts' amounts; it is empty if all are 0."""
    total = sum(part.amount for part in parts)
    bar = Text()
    begun = drawn = 0.0
    for part in parts:
        # Rounds the ends, not the lengths, so that the lengths always add up to the width.
        begun += part.amount
        end = round(width * begun / total) if total else 0
        bar.append(part.mark(pen) * int(end - drawn), part.style)
        drawn = end
    return bar.append(" " * int(width - drawn))


def legend(parts: Sequence[Part], indent: int, pen: Pen) -> list[Text]:
    """Return the parts' names and amounts, indented; on a narrow terminal with short names, or else on two lines."""
    for short in (False, True):
        line = _legend_line(parts, indent, short, pen)
        if line.cell_len <= pen.width or len(parts) == 1:
            return [line]
    half = -(-len(parts) // 2)
    return [_legend_line(some, indent, True, pen) for some in (parts[:half], parts[half:])]


def _legend_line(parts: Sequence[Part], indent: int, short: bool, pen: Pen) -> Text:
    text = Text(" " * indent)
    for part in parts:
        text.append(part.mark(pen) + " ", part.style)
        text.append((part.short if short else part.name) + " ", "dim")
        text.append(f"{part.amount:.2f}  ")
    text.rstrip()
    return text


class Trend:
    """A metric over the run in at most LIMIT points, each the mean of equally many steps."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self._steps_a_point = 1
        self._sum = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        self._sum += value
        self._count += 1
        if self._count < self._steps_a_point:
            return
        points = [*self.points, self._sum / self._count]
        self._sum, self._count = 0.0, 0
        if len(points) >= LIMIT:
            points = [(a + b) / 2 for a, b in zip(points[::2], points[1::2], strict=True)]
            self._steps_a_point *= 2
        self.points = points  # replaced, not changed in place: another thread may be drawing the old list


def sparkline(values: Sequence[float], width: int, ascii_only: bool = False) -> str:
    """Return at most `width` characters whose heights follow the values; equal values are drawn at half height."""
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    n = min(width, len(values))
    bins = [values[i * len(values) // n : (i + 1) * len(values) // n] for i in range(n)]
    means = [sum(values_bin) / len(values_bin) for values_bin in bins]
    if not means:
        return ""
    low, high = min(means), max(means)
    if high == low:
        return blocks[3] * n
    return "".join(blocks[round((mean - low) / (high - low) * (len(blocks) - 1))] for mean in means)
