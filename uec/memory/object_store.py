"""The size of a local cluster's object store, from the images of the data."""

from collections.abc import Sequence
from statistics import fmean

from uec.config.schema import Config
from uec.doctor.devices import free_memory
from uec.memory.allocations import MIB
from uec.models.processor import Processor
from uec.types import Prompt

STEPS = 3
"""Steps whose image features fit: this one and the next, within the share that the image cache fills."""

REST_MB = 128
"""For tokens, gradings and prompts."""

OF_MACHINE = 0.3
"""Largest share of the machine's memory, which is Ray's own default."""


def resolve_object_store(cfg: Config, prompts: Sequence[Prompt], processor: Processor | None) -> None:
    """Set `cluster.object_store_mb` if it is null: the default, or more if a step's image features take more."""
    if cfg.cluster.object_store_mb is None:
        step = 0.0 if processor is None else cfg.train.prompts_per_step * _mean_bytes(prompts, processor)
        most = int(OF_MACHINE * free_memory()[1] / MIB)
        cfg.cluster.object_store_mb = max(cfg.store_mb(), min(most, int(STEPS * step / MIB) + REST_MB))


def _mean_bytes(prompts: Sequence[Prompt], processor: Processor) -> float:
    """Return the mean bytes of a prompt's features in float32."""
    _, blank = processor.blank()
    token = sum(array.nbytes for array in blank.inputs.values()) / blank.tokens
    return token * fmean(sum(end - begin for begin, end in prompt.spans) for prompt in prompts)
