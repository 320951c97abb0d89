r"""Plane geometry on a grid of cells: an image, a question, and a derivation from the sides that the image shows.

For the image of an L-shape and the question `Find the area.` the response is

    w=6 h=8 w*h=48 cut w=2 h=5 w*h=10 diff=38 \boxed{38}

Several kinds share a question, so that the text reveals neither the kind nor the answer. Sides are in cells.
"""

import hashlib
import io
import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from uec.tasks.geometry import shapes

QUESTIONS = {
    "rect_area": "Find the area.",
    "rect_perim": "Find the perimeter.",
    "tri_area": "Find the area.",
    "poly_perim": "Find the perimeter.",
    "hyp2": "Find the hypotenuse squared.",
    "lshape": "Find the area.",
    "shaded": "Find the shaded area.",
}
KINDS = tuple(QUESTIONS)
LEVELS = (1, 2, 3)
SMALL_GRID, LARGE_GRID = 6, 8
"""Cells per side: 84 and 112 pixels, 9 and 16 image tokens."""
SHARE_OF_LARGE_GRIDS = {1: 0.15, 2: 0.15, 3: 0.5}
POLYOMINO_ROWS = {1: (2, 3), 2: (3, 4), 3: (4, 6)}
"""Fewest and most rows by level."""
MAX_RESPONSE_TOKENS = 24
"""The longest solution has 22 tokens, its end token included."""
MOST_REDRAWS = 2_000

Steps = tuple[tuple[str, int], ...]
"""Named quantities in the order of the derivation; a name may occur twice."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An image with a question, and the sides that a derivation reads off it."""

    image: Image.Image
    kind: str
    level: int  # 1 to 3: sides of up to 3, 5 or all cells of the grid (at level 1 a rectangle with a hole has up to 4)
    sides: tuple[int, ...]  # w and h of the bounding box; for lshape and shaded also w and h of the missing cells

    @property
    def steps(self) -> Steps:
        """Return the derivation."""
        return derive(self.kind, *self.sides)[0]

    @property
    def answer(self) -> int:
        """Return the last quantity of the derivation."""
        return derive(self.kind, *self.sides)[1]

    @property
    def question(self) -> str:
        """Return the text that the model reads with the image."""
        return QUESTIONS[self.kind]

    @property
    def solution(self) -> str:
        """Return the response that earns accuracy 1."""
        return write_solution(self.steps, self.answer)

    @property
    def key(self) -> bytes:
        """Return a digest of the image; the question does not count."""
        return hashlib.sha256(self.image.tobytes()).digest()


@dataclass(frozen=True, slots=True)
class Mix:
    """Weights of the kinds and levels in random problems. They need not sum to 1."""

    kinds: dict[str, float]
    levels: dict[int, float]


COLD_START = Mix(
    {"rect_area": 1.5, "rect_perim": 1.0, "tri_area": 1.5, "poly_perim": 1.2, "hyp2": 1.0, "lshape": 1.2, "shaded": 1.2},
    {1: 0.4, 2: 0.4, 3: 0.2},
)
RL = Mix(
    {"rect_area": 0.5, "rect_perim": 0.5, "tri_area": 0.8, "poly_perim": 0.9, "hyp2": 1.3, "lshape": 1.5, "shaded": 1.5},
    {1: 0.1, 2: 0.4, 3: 0.5},
)


def write_solution(steps: Steps, answer: int) -> str:
    """Return the response with these steps and the boxed answer."""
    return " ".join([*(f"{name}={value}" for name, value in steps), rf"\boxed{{{answer}}}"])


def derive(kind: str, w: int, h: int, inner_w: int = 0, inner_h: int = 0) -> tuple[Steps, int]:
    """Return the derivation and the answer for a shape in a w x h box, of which lshape and shaded lack inner_w x inner_h cells.

    Raises ValueError for an unknown kind.
    """
    sides = (("w", w), ("h", h))
    product = ("w*h", w * h)
    match kind:
        case "rect_area":
            return (*sides, product), w * h
        case "rect_perim" | "poly_perim":
            return (*sides, ("w+h", w + h)), 2 * (w + h)
        case "tri_area":
            return (*sides, product, ("half", w * h // 2)), w * h // 2
        case "hyp2":
            return (*sides, ("w*w", w * w), ("h*h", h * h), ("sum", w * w + h * h)), w * w + h * h
        case "lshape" | "shaded":
            name = "cut" if kind == "lshape" else "hole"
            inner, rest = inner_w * inner_h, w * h - inner_w * inner_h
            return (*sides, product, (f"{name} w", inner_w), ("h", inner_h), ("w*h", inner), ("diff", rest)), rest
    raise _unknown(kind)


def draw(rng: random.Random, kind: str, level: int) -> Problem:
    """Return a random problem of the kind and level, at a random place in a random colour."""
    cells = LARGE_GRID if rng.random() < SHARE_OF_LARGE_GRIDS[level] else SMALL_GRID
    longest = {1: 3, 2: 5, 3: cells}[level]
    image = shapes.blank(cells)
    colour = rng.choice(shapes.COLOURS)

    def pair(least: int, most: int) -> tuple[int, int]:
        return rng.randint(least, most), rng.randint(least, most)

    def place(w: int, h: int) -> tuple[int, int]:
        return rng.randint(0, cells - w), rng.randint(0, cells - h)

    missing: tuple[int, ...] = ()
    match kind:
        case "rect_area" | "rect_perim":
            w, h = pair(1, longest)
            shapes.rectangle(image, *place(w, h), w, h, colour)
        case "tri_area" | "hyp2":
            w, h = pair(1, longest)
            while kind == "tri_area" and w * h % 2:
                w, h = pair(1, longest)
            shapes.triangle(image, *place(w, h), w, h, rng.randrange(shapes.CORNERS), colour)
        case "poly_perim":
            rows = shapes.random_rows(rng, rng.randint(*POLYOMINO_ROWS[level]), longest)
            w, h = shapes.width(rows), len(rows)
            shapes.polyomino(image, *place(w, h), rows, colour)
        case "lshape":
            w, h = pair(2, longest)
            missing = rng.randint(1, w - 1), rng.randint(1, h - 1)
            shapes.l_shape(image, *place(w, h), w, h, *missing, rng.randrange(shapes.CORNERS), colour)
        case "shaded":
            w, h = pair(3, max(longest, 4))
            missing = rng.randint(1, w - 2), rng.randint(1, h - 2)
            x, y = place(w, h)
            shapes.rectangle(image, x, y, w, h, colour)
            hole_x, hole_y = rng.randint(x + 1, x + w - 1 - missing[0]), rng.randint(y + 1, y + h - 1 - missing[1])
            shapes.rectangle(image, hole_x, hole_y, *missing, shapes.WHITE)
        case _:
            raise _unknown(kind)
    return Problem(image, kind, level, (w, h, *missing))


def _unknown(kind: str) -> ValueError:
    return ValueError(f"there is no kind {kind!r} of geometry problem; there are {', '.join(KINDS)}")


def draw_from(rng: random.Random, mix: Mix) -> Problem:
    """Return a random problem of the mix."""
    kind = rng.choices(list(mix.kinds), list(mix.kinds.values()))[0]
    level = rng.choices(list(mix.levels), list(mix.levels.values()))[0]
    return draw(rng, kind, level)


def problems(seed: int, count: int, mix: Mix, avoid: set[bytes]) -> list[Problem]:
    """Return `count` problems with different images, none with a key in `avoid`.

    Raises ValueError if no new image is found (there are few small shapes on the small grid).
    """
    rng = random.Random(seed)
    seen = set(avoid)
    found: list[Problem] = []
    while len(found) < count:
        for _ in range(MOST_REDRAWS):
            problem = draw_from(rng, mix)
            if problem.key not in seen:
                break
        else:
            raise ValueError(f"{count} different geometry problems are too many: no new image after {len(found)}")
        seen.add(problem.key)
        found.append(problem)
    return found


def encode_png(image: Image.Image) -> bytes:
    """Return the image as PNG; equal images give equal bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write_parquet(path: Path, rows: list[Problem]) -> None:
    """Write the columns prompt, answer, images (a list of {bytes, path}), kind, level and solution; an existing file is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "prompt": pa.array([p.question for p in rows], pa.string()),
        "answer": pa.array([str(p.answer) for p in rows], pa.string()),
        "images": pa.array([[{"bytes": encode_png(p.image), "path": f"{i:06}.png"}] for i, p in enumerate(rows)], pa.list_(image_type)),
        "kind": pa.array([p.kind for p in rows], pa.string()),
        "level": pa.array([p.level for p in rows], pa.int64()),
        "solution": pa.array([p.solution for p in rows], pa.string()),
    }
    pq.write_table(pa.table(columns), path)
