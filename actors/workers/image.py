"""ImageActor: decodes and preprocesses the images of prompts, once for all engines and learners."""

from uec.config.schema import Config
from uec.data.image_file import open_images
from uec.errors import RunFailed
from uec.models.image_features import halved, size
from uec.types import ImageFeatures, Prompt


def environment() -> dict[str, str]:
    """Return the environment variables of this actor's process. It has one thread, because engines use the cores."""
    return {"OMP_NUM_THREADS": "1"}


class ImageActor:
    """One of `data.image.workers`."""

    def __init__(self, cfg: Config, rank: int, half: bool = False) -> None:
        """`half`: make features in bfloat16, as engines and learners compute."""
        self.cfg = cfg
        self.half = half
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

    def process(self, prompts: list[int]) -> tuple[float | ImageFeatures, ...]:
        """Return bytes per image token, then the image features of each prompt as separate return values.

        So `num_returns` is 1 + len(prompts).

        Raises RunFailed for an image that was removed or changed since the start.
        """
        found = [self._features(self.prompts[index]) for index in prompts]
        return sum(map(size, found)) / max(1, sum(features.tokens for features in found)), *found

    def _features(self, prompt: Prompt) -> ImageFeatures:
        images = open_images(prompt, self.cfg.data.image)
        try:
            features = self.processor.features(prompt, images)
            return halved(features) if self.half else features
        except ValueError as error:
            raise RunFailed(f"prompt {prompt.index}: the model's processor rejects {', '.join(prompt.images)}: {error}") from error
