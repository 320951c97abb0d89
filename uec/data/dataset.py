"""The prompts of a run."""

from dataclasses import dataclass, field

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

    @property
    def has_images(self) -> bool:
        return any(prompt.images for prompt in [*self.train, *self.eval])
