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


def legend(parts: Sequence[Part], indent: int, pen: Pen) -> Text:
    """The parts' names and amounts, indented; on a narrow terminal with short names, then closer together and without the last."""
    for names, gap, left in (
        ([part.name for part in parts], "  ", indent),
        ([part.short for part in parts], "  ", indent),
        ([part.short for part in parts], " ", 0),
    ):
        text = Text(" " * left)
        for name, part in zip(names, parts, strict=True):
            text.append(part.mark(pen) + " ", part.style)
            text.append(name + " ", "dim")
            text.append(f"{part.amount:.2f}{gap}")
        text.rstrip()
        if text.cell_len <= pen.width:
            return text
    return legend(parts[:-1], indent, pen) if len(parts) > 1 else text
