"""The config to check, and all checks that start no actor, in the order of the report."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from uec.algorithm.functions import check_functions
from uec.config.file import load_config
from uec.config.presets import PROJECT
from uec.config.schema import Config
from uec.config.validate import validate
from uec.doctor import devices, native, ray_state, storage, versions
from uec.doctor.check import Check, fail
from uec.errors import BadInput
from uec.system.process_env import compiler_caches

DEFAULT_CONFIG = PROJECT / "configs/llm.yaml"


def load_checked_config(path: str | None, overrides: list[str]) -> Config:
    """Return a validated config; without a path that of the default text run, from any working folder. Raises BadInput."""
    if path is not None and "=" in path:
        raise BadInput(f"{path} is no config file; name one before the settings: uec doctor configs/llm.yaml {path}")
    cfg = load_config(path or DEFAULT_CONFIG, overrides)
    if path is None:
        cfg.model.path = _in_project(cfg.model.path)
        cfg.data.train, cfg.data.eval = _all_in_project(cfg.data.train), _all_in_project(cfg.data.eval)
    validate(cfg)
    check_functions(cfg)
    return cfg


def _all_in_project(source: Any) -> Any:
    """Return data.train or data.eval with absolute paths."""
    return _in_project(source) if isinstance(source, str) else [_in_project(path) for path in source] if source else None


def machine_checks(cfg: Config) -> Iterator[Check]:
    """Yield a line for each check. A check that raises becomes a red line, and the others continue."""
    cuda = versions.gpu_packages()
    size = _size(cfg)
    checks: list[tuple[str, Callable[[], Check | Iterable[Check]]]] = [
        ("python", versions.python_version),
        ("packages", versions.package_versions),
        ("uec-rl", versions.plugin),
        ("cpu", devices.processor),
        ("gpu", devices.gpu),
        ("memory", lambda: devices.memory(cfg, size)),
        ("shared memory", lambda: storage.shared_memory(cfg, size, cuda)),
        ("open files", devices.open_files),
        ("disk", lambda: storage.run_folder(cfg)),
        ("cache", lambda: storage.cache_folder(compiler_caches())),
        ("torchvision", native.torchvision),
        ("deepspeed op", lambda: native.deepspeed_operator(cuda)),
        ("hub", lambda: storage.hub(cfg)),
        ("model", lambda: storage.model(cfg)),
        ("ray token", ray_state.token),
    ]
    for name, check in checks:
        yield from guarded(name, check)


def guarded(name: str, check: Callable[[], Check | Iterable[Check]]) -> Iterator[Check]:
    """Yield the check's lines, or a red line with the exception that it raised."""
    try:
        found = check()
        yield from [found] if isinstance(found, Check) else found
    except Exception as error:
        yield fail(name, f"the check itself failed: {type(error).__name__}: {error}", "an unexpected error: start from its message")


def _size(cfg: Config) -> int | None:
    """Return the model's number of parameters; an unreadable folder is reported by the check `model`."""
    try:
        return storage.parameters_of(cfg)
    except (OSError, ValueError, KeyError, ImportError):
        return None


def _in_project(name: str) -> str:
    return name if Path(name).exists() else str(PROJECT / name)
