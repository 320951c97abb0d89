"""ImageActor: decodes and preprocesses the images of prompts, once for every engine and learner that needs them."""

from uec.config.schema import Config
from uec.data.image import open_images
from uec.errors import RunFailed
from uec.types import ImageFeatures, Prompt


def environment() -> dict[str, str]:
    """Environment variables of this actor's process: it works beside an engine."""
    return {"OMP_NUM_THREADS": "1"}


class ImageActor:
    """One of `data.image.workers`."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self.cfg = cfg
        self.rank = rank

    def start(self, prompts: list[Prompt]) -> None:
        """Load the model's processor. Raises BadInput where it has none."""
        from uec.models.processor import load_processor
        from uec.models.source import load_tokenizer

        model = self.cfg.model
        processor = load_processor(model, self.cfg.data.image, load_tokenizer(model))
        assert processor is not None, "a text model has no images"
        self.processor = processor
        self.prompts = {prompt.index: prompt for prompt in prompts if prompt.images}

    def process(self, wanted: list[int]) -> tuple[None | ImageFeatures, ...]:
        """Features of these prompts' images, behind a None: one return value for each, so that `num_returns` is 1 + len(wanted).

        Raises RunFailed for a picture that is not there any more, or is another than at the start.
        """
        return None, *(self._features(self.prompts[index]) for index in wanted)

    def _features(self, prompt: Prompt) -> ImageFeatures:
        images = open_images(prompt, self.cfg.data.image)
        try:
            return self.processor.features(prompt, images)
        except ValueError as error:
            raise RunFailed(f"prompt {prompt.index}: the model's processor refuses {', '.join(prompt.images)}: {error}") from error
