"""The task of all benches: the default run of configs/llm.yaml or configs/vlm.yaml."""

from pathlib import Path

from uec.config.file import load_config
from uec.config.presets import PROJECT
from uec.config.schema import Config

TEXT = PROJECT / "configs/llm.yaml"
VISION = PROJECT / "configs/vlm.yaml"


def default_config(*overrides: str, config: Path = TEXT) -> Config:
    """Return the settings of the default run, with a local Ray and independent of the working directory."""
    cfg = load_config(config, ["cluster.address=local", *overrides])
    cfg.model.path = _absolute(cfg.model.path)
    cfg.data.train = _absolute(cfg.data.train)
    cfg.data.eval = None
    return cfg


def _absolute(path: str) -> str:
    return str(Path(PROJECT) / path)
