"""Every picture of a data set is decoded once before the run: that finds the damaged ones, and each one's size."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from uec.config.schema import ImageConfig
from uec.data.image import Source, open_image

Size = tuple[int, int]
"""(height, width) in pixels, turned as the EXIF orientation says."""

QUIET_S = 2.0
"""Nothing is said of a decoding that is shorter."""


def decode(pictures: Mapping[Source, str], cfg: ImageConfig) -> dict[Source, Size]:
    """Each picture's size. They come with the row that messages name; BadInput as from `open_image`, for the first that fails."""

    def measure(named: tuple[Source, str]) -> Size:
        image = open_image(named[0], cfg, named[1])
        return image.height, image.width

    sizes: dict[Source, Size] = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool, _progress(len(pictures)) as tell:  # Pillow lets other threads run
        for source, size in zip(pictures, pool.map(measure, pictures.items()), strict=True):
            sizes[source] = size
            tell(len(sizes))
    return sizes


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A function that is told how many are done; it shows a bar on stderr, or a line where that is no terminal, once it takes long."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(console=console, transient=True)
    task = bar.add_task("decoding pictures", total=total)
    begin, said = time.monotonic(), False

    def tell(done: int) -> None:
        nonlocal said
        bar.update(task, completed=done)
        if said or time.monotonic() - begin < QUIET_S:
            return
        said = True
        if console.is_terminal:
            bar.start()
        else:
            print(f"uec: decoding {total} pictures", file=sys.stderr)

    try:
        yield tell
    finally:
        if said and console.is_terminal:
            bar.stop()
