"""ImageActor: decodes and preprocesses the images of prompts, once for all engines and learners."""

from uec.config.schema import Config
from uec.data.image_file import open_images
from uec.errors import RunFailed
from uec.types import ImageFeatures, Prompt


def environment() -> dict[str, str]:
    """Return the environment variables of this actor's process. It has one thread, because engines use the cores."""
    return {"OMP_NUM_THREADS": "1"}


class ImageActor:
    """One of `data.image.workers`."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self.cfg = cfg
        self.rank = rank

    def start(self, prompts: list[Prompt]) -> None:
        """Load the model's processor. Raises BadInput if there is none."""
        from uec.models.pretrained import load_tokenizer
        from uec.models.processor import load_processor

        model = self.cfg.model
        processor = load_processor(model, self.cfg.data.image, load_tokenizer(model))
        assert processor is not None, "a text model has no images"
        self.processor = processor
        self.prompts = {prompt.index: prompt for prompt in prompts if prompt.images}

    def process(self, prompts: list[int]) -> tuple[None | ImageFeatures, ...]:
        """Return None, then the image features of each prompt as separate return values, so `num_returns` is 1 + len(prompts).

        Raises RunFailed for an image that was removed or changed since the start.
        """
        return None, *(self._features(self.prompts[index]) for index in prompts)

    def _features(self, prompt: Prompt) -> ImageFeatures:
        images = open_images(prompt, self.cfg.data.image)
        try:
            return self.processor.features(prompt, images)
        except ValueError as error:
            raise RunFailed(f"prompt {prompt.index}: the model's processor rejects {', '.join(prompt.images)}: {error}") from error
