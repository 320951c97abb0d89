"""A run's data sets, as prompts."""

from dataclasses import dataclass, field

from uec.types import Prompt


@dataclass(frozen=True)
class Dataset:
    train: list[Prompt]  # indices 0 .. n-1
    eval: list[Prompt]  # indices go on behind train's; empty where data.eval is not given
    dropped_train: int  # rows left out for having more than data.max_prompt_tokens
    dropped_eval: int
    embedded: dict[str, bytes] = field(default_factory=dict)
    """Pictures that came as bytes, by the name that their prompts have for them until `write_images`."""

    @property
    def has_pictures(self) -> bool:
        return any(prompt.images for prompt in [*self.train, *self.eval])
