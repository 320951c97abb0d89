"""A reward that says nothing: right or wrong by the response's checksum, half of them each. For benches on random models."""

import zlib
from typing import Any


def score(response: str, answer: str, **row: Any) -> float:
    return float(zlib.crc32(response.encode()) % 2)
