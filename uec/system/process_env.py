"""The process environment of the driver and the actors: environment variables and standard streams."""

import atexit
import os
import sys
from pathlib import Path

import uec

COMPILER_CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR")
"""Environment variables that name the cache folders of torch's two compilers."""
ONEDNN_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""Environment variables of an actor that computes on CPU: the sizes of the primitive caches of oneDNN and PyTorch.

Each step and each batch has different shapes here. The defaults of 1024 entries took half a gigabyte after 50 steps of a model of three
megabytes; 64 entries are as fast (docs/hardware.md).
"""


def prepare_driver() -> None:
    """Set the driver's environment variables. Call this before Ray, torch or transformers is imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the driver computes little, and each actor has a separate setting
    os.environ.update(compiler_caches())


def compiler_caches() -> dict[str, str]:
    """Return environment variables for torch's two compilers, without those that are already set.

    Inductor's cache is keyed by content and can be shared, but its default folder in /tmp is lost at a restart of the machine. An extension
    (DeepSpeed's communication operator) is built against the headers of one environment: in torch's default folder, which all environments
    share, each environment would rebuild it after another one.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    places = {"TORCHINDUCTOR_CACHE_DIR": home / "uec-rl" / "inductor"}
    if os.access(sys.prefix, os.W_OK):
        places["TORCH_EXTENSIONS_DIR"] = Path(sys.prefix) / "cache" / "torch_extensions"
    return {name: str(place) for name, place in places.items() if name not in os.environ}


def current_compiler_caches() -> dict[str, str]:
    """Return the same variables as this process has them. An actor of a running cluster inherits the cluster's environment instead."""
    return {name: os.environ[name] for name in COMPILER_CACHES if name in os.environ}


def import_path() -> dict[str, str]:
    """Return the environment variable by which an actor's process finds `actors`: it imports the actor's class before `uec`.

    Ray replaces ${PYTHONPATH} by the value on the actor's node.
    """
    return {"PYTHONPATH": os.pathsep.join(["${PYTHONPATH}", uec.ROOT])}


def discard_output(descriptor: int) -> None:
    """Redirect a file descriptor to /dev/null, when nobody reads it any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def discard_stderr_at_exit() -> None:
    """Discard what is written to stderr after all other exit handlers: nanobind's pages about objects that Triton leaks.

    Call this first, because exit handlers run in reverse order.
    """
    atexit.register(_discard_stderr)


def _discard_stderr() -> None:
    sys.stderr.flush()
    discard_output(2)
