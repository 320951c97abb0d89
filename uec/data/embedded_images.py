"""Write images that the data holds as bytes to files in the run folder. Their names are hashes, so equal images share a file."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from uec.data.image_file import suffix
from uec.errors import BadInput
from uec.types import Prompt

if TYPE_CHECKING:
    from uec.data.dataset import Dataset


def file_name(content: bytes) -> str:
    """Return the name of an image's file, such as 0123456789abcdef.png."""
    return hashlib.sha256(content).hexdigest()[:16] + suffix(content)


def write_images(dataset: "Dataset", folder: Path) -> "Dataset":
    """Write `dataset.embedded` into `folder`. Return the data set with the files' paths in its prompts and without the bytes.

    Existing files stay. Raises BadInput if the disk refuses.
    """
    if not dataset.embedded:
        return dataset
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in dataset.embedded.items():
            _write(folder / name, content)
    except OSError as error:
        raise BadInput(f"run.dir: the data's images cannot be written to {folder} ({error.strerror}); make room, or move it") from error

    def with_paths(prompt: Prompt) -> Prompt:
        return replace(prompt, images=tuple(str(folder / path) for path in prompt.images))  # joining keeps an absolute path

    return replace(dataset, train=list(map(with_paths, dataset.train)), eval=list(map(with_paths, dataset.eval)), embedded={})


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)  # no fsync: a resumed run rewrites a file that a power cut has damaged
    finally:
        unfinished.unlink(missing_ok=True)
