"""A figure over the run, kept small enough to draw."""

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-:=+*#"
LIMIT = 512  # points: more than a terminal has columns


class Trend:
    """The course of one figure in at most LIMIT points, each the mean of equally many steps."""

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
        self.points = points  # replaced, never changed in place: another thread may be drawing the old list


def sparkline(values: Sequence[float], width: int, ascii_only: bool = False) -> str:
    """At most `width` characters from the lowest to the highest value; equal values are drawn at half height."""
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
