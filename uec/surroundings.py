"""The environment of a driver process, which Ray's workers inherit."""

import atexit
import os
import sys

from uec import caches


def prepare_driver() -> None:
    """Before Ray, torch or transformers is imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the driver computes next to nothing; each actor has a setting of its own
    os.environ.update(caches.environment())


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
