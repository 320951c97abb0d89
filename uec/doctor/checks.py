"""All checks that start no actor, in the order of the report."""

from collections.abc import Callable, Iterable, Iterator

from uec.config.schema import Config
from uec.doctor import devices, native, places, ray_state, versions
from uec.doctor.check import Check, fail
from uec.system.process_env import compiler_caches


def machine_checks(cfg: Config) -> Iterator[Check]:
    """A line each. A check that fails in a way that nobody foresaw is a red line, too, and the others go on."""
    cuda = versions.gpu_packages()
    size = _size(cfg)
    one_by_one: list[tuple[str, Callable[[], Check | Iterable[Check]]]] = [
        ("python", versions.python_version),
        ("packages", versions.package_versions),
        ("uec-rl", versions.plugin),
        ("cpu", devices.processor),
        ("gpu", devices.gpu),
        ("memory", lambda: devices.memory(cfg, size)),
        ("shared memory", lambda: places.shared_memory(cfg, size, cuda)),
        ("open files", devices.open_files),
        ("disk", lambda: places.run_folder(cfg)),
        ("cache", lambda: places.cache_folder(compiler_caches())),
        ("torchvision", native.torchvision),
        ("deepspeed op", lambda: native.deepspeed_operator(cuda)),
        ("hub", lambda: places.hub(cfg)),
        ("model", lambda: places.model(cfg)),
        ("ray token", ray_state.token),
    ]
    for name, check in one_by_one:
        yield from guarded(name, check)


def guarded(name: str, check: Callable[[], Check | Iterable[Check]]) -> Iterator[Check]:
    """The check's lines; or a red one that says how it broke."""
    try:
        found = check()
        yield from [found] if isinstance(found, Check) else found
    except Exception as error:
        yield fail(name, f"the check itself failed: {type(error).__name__}: {error}", "not foreseen: what it says is the best lead")


def _size(cfg: Config) -> int | None:
    """Parameters of the model; a folder that cannot be read is the check `model`'s business."""
    try:
        return places.parameters_of(cfg)
    except (OSError, ValueError, KeyError, ImportError):
        return None
