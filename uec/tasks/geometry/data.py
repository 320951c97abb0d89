r"""Plane geometry on a grid of cells: a picture, a question, and a derivation that is read off and worked out.

Under a picture of an L-shape stands `Find the area.`, and the response is

    w=6 h=8 w*h=48 cut w=2 h=5 w*h=10 diff=38 \boxed{38}

Several kinds share a question, so that neither the kind nor the answer is in the text. Sides are in cells.
"""

import hashlib
import io
import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from uec.tasks.geometry import shapes as shapes

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
"""Cells a side: 84 and 112 pixels, 9 and 16 image tokens."""
SHARE_OF_LARGE_GRIDS = {1: 0.15, 2: 0.15, 3: 0.5}
POLYOMINO_ROWS = {1: (2, 3), 2: (3, 4), 3: (4, 6)}
"""Fewest and most, a level."""
MAX_RESPONSE_TOKENS = 24
"""The longest solution has 22 tokens with its end token."""
MOST_REDRAWS = 2_000

Steps = tuple[tuple[str, int], ...]
"""Named quantities in the order of the derivation; a name may come twice."""


@dataclass(frozen=True, slots=True)
class Problem:
    picture: Image.Image
    kind: str
    level: int
    """1 to 3: sides of up to 3, 5 or all cells of the grid (a rectangle with a hole has up to 4 at level 1)."""
    sides: tuple[int, ...]
    """w and h of the figure's box; with lshape and shaded those of what is missing, too."""

    @property
    def steps(self) -> Steps:
        return derive(self.kind, *self.sides)[0]

    @property
    def answer(self) -> int:
        return derive(self.kind, *self.sides)[1]

    @property
    def question(self) -> str:
        return QUESTIONS[self.kind]

    @property
    def solution(self) -> str:
        return write_solution(self.steps, self.answer)

    @property
    def key(self) -> bytes:
        """Equal for equal pictures only, whatever is asked about them."""
        return hashlib.sha256(self.picture.tobytes()).digest()


@dataclass(frozen=True, slots=True)
class Mix:
    """How often a kind and a level are drawn; weights, not shares."""

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
    return " ".join([*(f"{name}={value}" for name, value in steps), rf"\boxed{{{answer}}}"])


def derive(kind: str, w: int, h: int, inner_w: int = 0, inner_h: int = 0) -> tuple[Steps, int]:
    """The derivation and the answer for a figure with a w x h box; lshape and shaded lack inner_w x inner_h cells of it."""
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
    """A random problem of that kind and level, at a random place in a random colour."""
    cells = LARGE_GRID if rng.random() < SHARE_OF_LARGE_GRIDS[level] else SMALL_GRID
    longest = {1: 3, 2: 5, 3: cells}[level]
    picture = shapes.blank(cells)
    colour = rng.choice(shapes.COLOURS)

    def pair(least: int, most: int) -> tuple[int, int]:
        return rng.randint(least, most), rng.randint(least, most)

    def place(w: int, h: int) -> tuple[int, int]:
        return rng.randint(0, cells - w), rng.randint(0, cells - h)

    missing: tuple[int, ...] = ()
    match kind:
        case "rect_area" | "rect_perim":
            w, h = pair(1, longest)
            shapes.rectangle(picture, *place(w, h), w, h, colour)
        case "tri_area" | "hyp2":
            w, h = pair(1, longest)
            while kind == "tri_area" and w * h % 2:
                w, h = pair(1, longest)
            shapes.triangle(picture, *place(w, h), w, h, rng.randrange(shapes.CORNERS), colour)
        case "poly_perim":
            rows = shapes.random_rows(rng, rng.randint(*POLYOMINO_ROWS[level]), longest)
            w, h = shapes.width(rows), len(rows)
            shapes.polyomino(picture, *place(w, h), rows, colour)
        case "lshape":
            w, h = pair(2, longest)
            missing = rng.randint(1, w - 1), rng.randint(1, h - 1)
            shapes.l_shape(picture, *place(w, h), w, h, *missing, rng.randrange(shapes.CORNERS), colour)
        case "shaded":
            w, h = pair(3, max(longest, 4))
            missing = rng.randint(1, w - 2), rng.randint(1, h - 2)
            x, y = place(w, h)
            shapes.rectangle(picture, x, y, w, h, colour)
            hole_x, hole_y = rng.randint(x + 1, x + w - 1 - missing[0]), rng.randint(y + 1, y + h - 1 - missing[1])
            shapes.rectangle(picture, hole_x, hole_y, *missing, shapes.WHITE)
        case _:
            raise _unknown(kind)
    return Problem(picture, kind, level, (w, h, *missing))


def _unknown(kind: str) -> ValueError:
    return ValueError(f"there is no kind {kind!r} of geometry problem; there are {', '.join(KINDS)}")


def draw_from(rng: random.Random, mix: Mix) -> Problem:
    kind = rng.choices(list(mix.kinds), list(mix.kinds.values()))[0]
    level = rng.choices(list(mix.levels), list(mix.levels.values()))[0]
    return draw(rng, kind, level)


def problems(seed: int, count: int, mix: Mix, avoid: set[bytes]) -> list[Problem]:
    """`count` problems with different pictures, none with a key in `avoid`.

    Raises ValueError where no new picture is found (small figures on the small grid are soon used up).
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
            raise ValueError(f"{count} different geometry problems are too many: no new picture after {len(found)}")
        seen.add(problem.key)
        found.append(problem)
    return found


def encode_png(picture: Image.Image) -> bytes:
    """The same picture gives the same bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write_parquet(path: Path, rows: list[Problem]) -> None:
    """Columns prompt, answer, images (a list of {bytes, path}), kind, level and solution; over what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "prompt": pa.array([p.question for p in rows], pa.string()),
        "answer": pa.array([str(p.answer) for p in rows], pa.string()),
        "images": pa.array([[{"bytes": encode_png(p.picture), "path": f"{i:06}.png"}] for i, p in enumerate(rows)], pa.list_(image)),
        "kind": pa.array([p.kind for p in rows], pa.string()),
        "level": pa.array([p.level for p in rows], pa.int64()),
        "solution": pa.array([p.solution for p in rows], pa.string()),
    }
    pq.write_table(pa.table(columns), path)
