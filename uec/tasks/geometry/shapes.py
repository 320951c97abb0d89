"""Images of the geometry task: plane shapes on a grid of cells, in one colour.

Positions and sides are in cells from the top left corner. A cell is one patch of the vision tower, so that a shape fills
whole patches.
"""

import random

from PIL import Image, ImageDraw

CELL = 14
"""Pixels a side of a cell."""
COLOURS = ((220, 60, 60), (60, 120, 220), (40, 160, 80), (230, 160, 30), (150, 80, 190), (30, 170, 180))
WHITE, GREY, INK = (255, 255, 255), (205, 205, 205), (40, 40, 40)
CORNERS = 4
"""Numbered clockwise from the top left corner."""

Colour = tuple[int, int, int]
Rows = tuple[tuple[int, int], ...]
"""First and last column of each row of a polyomino."""


def blank(cells: int) -> Image.Image:
    """Return an empty RGB grid of cells x cells."""
    side = cells * CELL
    image = Image.new("RGB", (side, side), WHITE)
    pen = ImageDraw.Draw(image)
    for start in range(0, side, CELL):
        pen.line([(start, 0), (start, side - 1)], fill=GREY)
        pen.line([(0, start), (side - 1, start)], fill=GREY)
    return image


def rectangle(image: Image.Image, x: int, y: int, w: int, h: int, colour: Colour) -> None:
    """Draw a filled rectangle."""
    ImageDraw.Draw(image).rectangle(_box(x, y, w, h), fill=colour, outline=INK)


def triangle(image: Image.Image, x: int, y: int, w: int, h: int, missing: int, colour: Colour) -> None:
    """Draw the right triangle on three corners of the box; the right angle is opposite the missing corner."""
    left, top, right, bottom = _box(x, y, w, h)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    del corners[missing]
    ImageDraw.Draw(image).polygon(corners, fill=colour, outline=INK)


def l_shape(image: Image.Image, x: int, y: int, w: int, h: int, cut_w: int, cut_h: int, corner: int, colour: Colour) -> None:
    """Draw a rectangle without the cut_w x cut_h cells at one corner."""
    left, top, right, bottom = _box(x, y, w, h)
    inner_x, inner_y = left + cut_w * CELL, top + cut_h * CELL
    points = [(inner_x, top), (right, top), (right, bottom), (left, bottom), (left, inner_y), (inner_x, inner_y)]
    if corner in (1, 2):
        points = [(left + right - a, b) for a, b in points]
    if corner in (2, 3):
        points = [(a, top + bottom - b) for a, b in points]
    ImageDraw.Draw(image).polygon(points, fill=colour, outline=INK)


def polyomino(image: Image.Image, x: int, y: int, rows: Rows, colour: Colour) -> None:
    """Draw the cells of the rows, each with its outline; column 0 is at x."""
    for row, (first, last) in enumerate(rows):
        for column in range(first, last + 1):
            rectangle(image, x + column, y + row, 1, 1, colour)


def random_rows(rng: random.Random, height: int, most_columns: int) -> Rows:
    """Return the rows of a random polyomino that is no rectangle. `height` and `most_columns` are at least 2.

    The leftmost column is 0. Rows and columns have no gaps, so the perimeter equals that of the bounding box.
    """
    while True:
        rows = [_span(rng, most_columns)]
        while len(rows) < height:
            first, last = _span(rng, most_columns)
            if first <= rows[-1][1] and last >= rows[-1][0]:
                rows.append((first, last))
        left = min(first for first, _ in rows)
        if len(set(rows)) > 1 and all(_is_one_run(rows, column) for column in range(most_columns)):
            return tuple((first - left, last - left) for first, last in rows)


def width(rows: Rows) -> int:
    """Return the number of columns of a polyomino."""
    return max(last for _, last in rows) + 1


def _span(rng: random.Random, columns: int) -> tuple[int, int]:
    first = rng.randrange(columns)
    return first, rng.randrange(first, columns)


def _is_one_run(rows: list[tuple[int, int]], column: int) -> bool:
    """Return whether the rows with a cell in the column are neighbours."""
    filled = [row for row, (first, last) in enumerate(rows) if first <= column <= last]
    return not filled or filled[-1] - filled[0] + 1 == len(filled)


def _box(x: int, y: int, w: int, h: int) -> tuple[int, int, int, int]:
    """Return the left, top, right and bottom pixel, all of them inside."""
    return x * CELL, y * CELL, (x + w) * CELL - 1, (y + h) * CELL - 1
