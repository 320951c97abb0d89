"""Checks of compiled code that is known to cause problems: torchvision, and DeepSpeed's communication operator."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from uec.doctor.check import Check, fail, note, ok

IMPORT_TIMEOUT_S = 120.0
OPERATOR = "deepspeed_shm_comm"
BUILD_S = 600.0  # an older lock belongs to a build that was killed
SHIM = "_uec_torchvision_cpu"


def torchvision() -> Check:
    """Check in a subprocess that torchvision can be imported: a CUDA build with a CPU torch cannot, and vLLM then fails too."""
    command = [sys.executable, "-c", "import torchvision; print(torchvision.__version__)"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return fail(
            "torchvision", f"not imported within {IMPORT_TIMEOUT_S:g} s", "the machine is overloaded or its disk is slow: try again"
        )
    if done.returncode == 0:
        shim = ", with the project's shim for a CPU torch" if _shim_is_installed() else ""
        return ok("torchvision", f"{done.stdout.strip()} can be imported{shim}")
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    site = sysconfig.get_path("purelib")
    return fail(
        "torchvision", f"cannot be imported: {last}", f"`cp launch/torchvision_cpu_shim/* {site}` on a CPU install, or `make setup`"
    )


def deepspeed_operator(cuda: bool) -> Check:
    """Check the operator, which the first run compiles once a machine; with NCCL it is not needed."""
    name = "deepspeed op"
    if cuda:
        return ok(name, "not needed: learners communicate by NCCL")
    folder = extensions_folder() / OPERATOR
    lock = folder / "lock"
    if lock.exists() and time.time() - lock.stat().st_mtime > BUILD_S:
        return fail(name, f"{lock} belongs to a build that was killed; the next build would wait for it for ever", f"`rm {lock}`")
    if (folder / f"{OPERATOR}.so").exists():
        return ok(name, f"compiled, in {folder}")
    missing = _missing_tools()
    if missing:
        return fail(
            name, f"not compiled, and {', '.join(missing)} not found", "Debian: apt-get install g++ python3.11-dev; pip install ninja"
        )
    return note(
        name, f"not compiled yet, but there is a compiler ({_compiler()})", "the first run, or `make setup`, takes about a minute longer"
    )


def extensions_folder() -> Path:
    """Return the folder for torch's extensions: the one that uec/system/process_env.py has set, or else torch's default."""
    given = os.environ.get("TORCH_EXTENSIONS_DIR")
    if given:
        return Path(given)
    from torch.utils import cpp_extension

    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    return Path(cpp_extension.get_default_build_root()) / f"{version}_cpu"


def _missing_tools() -> list[str]:
    tools = [] if shutil.which(_compiler()) else [f"C++ compiler ({_compiler()})"]
    beside = Path(sys.executable).parent / "ninja"
    tools += [] if shutil.which("ninja") or beside.exists() else ["ninja"]
    return tools + ([] if Path(sysconfig.get_path("include"), "Python.h").exists() else ["Python.h"])


def _compiler() -> str:
    return os.environ.get("CXX") or "g++"


def _shim_is_installed() -> bool:
    return Path(sysconfig.get_path("purelib"), f"{SHIM}.py").exists()
