"""Pictures that came as bytes in the data: files in the run folder, named after what is in them, so that equal ones are one."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from uec.data.image import suffix
from uec.errors import BadInput
from uec.types import Prompt

if TYPE_CHECKING:
    from uec.data.dataset import Dataset


def file_name(content: bytes) -> str:
    """The name of a picture's file, such as 0123456789abcdef.png."""
    return hashlib.sha256(content).hexdigest()[:16] + suffix(content)


def write_images(dataset: "Dataset", folder: Path) -> "Dataset":
    """Write `dataset.embedded` into `folder`; the same data set with the files' paths in its prompts, and without the bytes.

    A file that is there already is left alone. Raises BadInput if the disk refuses.
    """
    if not dataset.embedded:
        return dataset
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in dataset.embedded.items():
            _write(folder / name, content)
    except OSError as error:
        raise BadInput(f"run.dir: the data's pictures cannot be written to {folder} ({error.strerror}); make room, or move it") from error

    def placed(prompt: Prompt) -> Prompt:
        return replace(prompt, images=tuple(str(folder / path) for path in prompt.images))  # an absolute path stays as it is

    return replace(dataset, train=list(map(placed, dataset.train)), eval=list(map(placed, dataset.eval)), embedded={})


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)  # no fsync: what a power cut spoils is written again when the run is resumed
    finally:
        unfinished.unlink(missing_ok=True)
