"""The config that is examined."""

from pathlib import Path

from uec.algorithm.functions import check_functions
from uec.config.file import PROJECT, load_config
from uec.config.schema import Config
from uec.config.validate import validate
from uec.errors import BadInput

DEFAULT = PROJECT / "configs/llm.yaml"


def examined(path: str | None, overrides: list[str]) -> Config:
    """A validated config; without a path the default text run's, wherever the command is called. Raises BadInput."""
    if path is not None and "=" in path:
        raise BadInput(f"{path} is no config file; name one before the settings: uec doctor configs/llm.yaml {path}")
    cfg = load_config(path or DEFAULT, overrides)
    if path is None:
        cfg.model.path = _of_project(cfg.model.path)
        cfg.data.train = _of_project(cfg.data.train)
        cfg.data.eval = _of_project(cfg.data.eval) if cfg.data.eval else None
    validate(cfg)
    check_functions(cfg)
    return cfg


def _of_project(name: str) -> str:
    return name if Path(name).exists() else str(PROJECT / name)
