"""Decode every image of a data set once before the run, to find damaged files and the sizes of the images."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from uec.config.schema import ImageConfig
from uec.data.image_file import Source, open_image

Size = tuple[int, int]
"""(height, width) in pixels, after the rotation by the EXIF orientation."""

QUIET_S = 2.0
"""Seconds of decoding after which progress is shown."""


def measure_images(images: Mapping[Source, str], cfg: ImageConfig) -> dict[Source, Size]:
    """Return the size of each image. `images` maps them to the row that messages name. Raises the BadInput of the first bad image."""

    def measure(named: tuple[Source, str]) -> Size:
        image = open_image(named[0], cfg, named[1])
        return image.height, image.width

    sizes: dict[Source, Size] = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool, _progress(len(images)) as report:  # Pillow releases the GIL
        for source, size in zip(images, pool.map(measure, images.items()), strict=True):
            sizes[source] = size
            report(len(sizes))
    return sizes


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Yield a function to call with the number of decoded images. After QUIET_S, stderr shows a bar, or one line without a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(console=console, transient=True)
    task = bar.add_task("decoding images", total=total)
    begin, shown = time.monotonic(), False

    def report(done: int) -> None:
        nonlocal shown
        bar.update(task, completed=done)
        if shown or time.monotonic() - begin < QUIET_S:
            return
        shown = True
        if console.is_terminal:
            bar.start()
        else:
            print(f"uec: decoding {total} images", file=sys.stderr)

    try:
        yield report
    finally:
        if shown and console.is_terminal:
            bar.stop()
