"""The prompts of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from uec.types import Prompt


@dataclass(frozen=True)
class Dataset:
    """The training and evaluation prompts of a run."""

    train: list[Prompt]  # indices 0 .. n-1
    eval: list[Prompt]  # indices continue after those of train; empty if data.eval is not set
    dropped_train: int  # rows omitted because they have more than data.max_prompt_tokens
    dropped_eval: int
    embedded: dict[str, bytes] = field(default_factory=dict)
    """Images that the data holds as bytes, by the file name that prompts use until `write_images`."""
    notes: tuple[str, ...] = ()
    """What a user should know of the model that reads these prompts: its chat template, and how its rows are computed."""

    @property
    def has_images(self) -> bool:
        return any(prompt.images for prompt in [*self.train, *self.eval])


def digest(prompts: Sequence[Prompt]) -> str:
    """Return a hash of what the model reads and of the answers; other columns may change between a checkpoint and its resume."""
    total = xxhash.xxh3_64()
    for prompt in prompts:
        total.update(len(prompt.tokens).to_bytes(8, "little") + prompt.tokens.tobytes())
        names = [Path(image).name for image in prompt.images]
        total.update(repr((prompt.answer, names)).encode("utf-8", errors="surrogatepass"))
    return total.hexdigest()
