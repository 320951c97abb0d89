"""A reward without meaning for benches on random models: the response's checksum decides, and half of the responses are right."""

import zlib
from typing import Any


def score(response: str, answer: str, **row: Any) -> float:
    return float(zlib.crc32(response.encode()) % 2)
