"""The environment of a driver process, which Ray's workers inherit."""

import os

from uec import caches


def prepare_driver() -> None:
    """Before Ray, torch or transformers is imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the driver computes next to nothing; each actor has a setting of its own
    os.environ.update(caches.environment())
