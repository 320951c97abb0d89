"""Bars of characters: how full something is, and how it divides."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text


@dataclass(frozen=True, slots=True)
class Pen:
    """What the terminal can show."""

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
    block: str  # tells the pieces apart without colours
    ascii_block: str

    def mark(self, pen: Pen) -> str:
        if pen.ascii_only:
            return self.ascii_block
        return "█" if pen.colour else self.block


def fill_bar(done: float, total: float, width: int, style: str, pen: Pen) -> Text:
    """A bar of `width` characters, filled by done/total."""
    full = round(width * min(1.0, max(0.0, done / total if total else 0.0)))
    mark, rest = ("#", ".") if pen.ascii_only else ("━", "━" if pen.colour else "┄")
    return Text.assemble((mark * full, style), (rest * (width - full), "dim"))


def split_bar(parts: Sequence[Part], width: int, pen: Pen) -> Text:
    """A bar of `width` characters, divided by the parts' amounts; nothing at all gives an empty bar."""
    total = sum(part.amount for part in parts)
    bar = Text()
    begun = drawn = 0.0
    for part in parts:
        # Rounding the ends, not the lengths: these always add up to the width.
        begun += part.amount
        end = round(width * begun / total) if total else 0
        bar.append(part.mark(pen) * int(end - drawn), part.style)
        drawn = end
    return bar.append(" " * int(width - drawn))


def legend(parts: Sequence[Part], indent: int, pen: Pen) -> list[Text]:
    """The parts' names and amounts, indented; on a narrow terminal with short names, then on two lines."""
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
