"""The disk space of a run's checkpoints, from the model's config.json alone."""

from pathlib import Path

from uec.config.schema import Config
from uec.config.validate import check_disk
from uec.memory.allocations import MIB
from uec.memory.shape import shape_of

STATE = 12
"""Bytes per trained parameter of the learner's state: float32 weights and AdamW's two moments."""

OTHER = 16 * MIB
"""Assumed bytes of tokenizer, replay store and small files."""


def check_checkpoints(cfg: Config, folder: Path) -> None:
    """Check the space for checkpoints of a model whose weights are not on this machine yet, for example a hub name. Raises BadInput.

    For a folder with weights, `check_disk` alone is enough. Reads config.json, so the model must be found already.
    """
    if not any(Path(cfg.model.path).expanduser().glob("*.safetensors")):
        check_disk(cfg, folder, checkpoint_bytes(cfg))


def checkpoint_bytes(cfg: Config) -> int:
    """Return the bytes of a checkpoint: the learner's state, and the policy in hf/."""
    shape = shape_of(cfg.model, cfg.lora)
    width = 4 if cfg.model.dtype == "float32" else 2
    return STATE * shape.trained + width * shape.parameters + OTHER
