"""The environment variables of the driver and of the actors, and what the driver does with its standard error."""

import atexit
import os
import sys
from pathlib import Path

import uec


def compiler_caches() -> dict[str, str]:
    """Environment variables for torch's two compilers; what the user has set himself is left out.

    torch.compile's cache goes by content, so that it may be shared; its own place, /tmp, is lost when the machine restarts. An
    extension (DeepSpeed's communication operator) is built against one environment's headers: in torch's own place, which all
    environments share, each would build it anew after another.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    places = {"TORCHINDUCTOR_CACHE_DIR": home / "uec-rl" / "inductor"}
    if os.access(sys.prefix, os.W_OK):
        places["TORCH_EXTENSIONS_DIR"] = Path(sys.prefix) / "cache" / "torch_extensions"
    return {name: str(place) for name, place in places.items() if name not in os.environ}


def compiler_caches_in_force() -> dict[str, str]:
    """The same variables as they are set here: the actors of a cluster that runs already inherit its environment, not the driver's."""
    return {name: os.environ[name] for name in ("TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR") if name in os.environ}


def import_path() -> dict[str, str]:
    """Return the environment variable by which an actor's process finds `actors`: its class is imported before anything of `uec`.

    Ray replaces ${PYTHONPATH} by the value on the actor's node.
    """
    return {"PYTHONPATH": os.pathsep.join(["${PYTHONPATH}", uec.ROOT])}


def prepare_driver() -> None:
    """Before Ray, torch or transformers is imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the driver computes next to nothing; each actor has a setting of its own
    os.environ.update(compiler_caches())


def end_quietly() -> None:
    """To be called first: what is registered first is called last, and all that is still written to stderr then are nanobind's pages
    about what Triton leaks when a process ends."""
    atexit.register(_close_stderr)


def silence(descriptor: int) -> None:
    """What is written to it from now on goes nowhere: nobody is there to read."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _close_stderr() -> None:
    sys.stderr.flush()
    silence(2)


ONEDNN_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""Environment variables of a process that computes on CPU: sizes that oneDNN and PyTorch keep what they have prepared for.

Here each step and each batch has sizes of its own. By default either keeps 1024, which took half a gigabyte after 50 steps of a model of
three megabytes; 64 are as fast (docs/hardware.md).
"""
