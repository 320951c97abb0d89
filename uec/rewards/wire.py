"""What passes between a grading process and its parent.

Down the command pipe: frames of an 8-byte length and a pickle, made by the parent: first the reward settings, then one
list of (response, answer, row) a batch. Up the result pipe: lines of JSON, because what a process says that works on a
model's output is never unpickled: ["ready"] or ["failed", why] for the settings, then lines of
[[position, parts or null, error or null], ...] until all of a batch are answered. In shared memory: the position that is
being graded and when that began, which the parent can read whatever state the process is in.
"""

import pickle
import struct
from dataclasses import dataclass
from typing import Any

LENGTH = struct.Struct("<Q")
POSITION = struct.Struct("<q")  # at byte 0; -1: not begun
STARTED = struct.Struct("<d")  # at byte 8; monotonic clock, which all processes share
PROGRESS_BYTES = 16
LONGEST_ERROR = 2000
LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Task:
    """A response to be graded."""

    response: str
    answer: str
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one grading: parts in [0, 1], or the reason why there are none."""

    parts: dict[str, float] | None
    error: str | None
    timed_out: bool = False


def frame(message: Any) -> bytes:
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body
