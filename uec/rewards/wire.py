"""The protocol between a grading process and its parent.

Command pipe, to the process: frames of an 8-byte length and a pickle, made by the parent. The first is the reward settings,
each further one a batch: a list of (response, answer, row). Result pipe, to the parent: lines of JSON, because nothing that
comes from a process working on a model's output is unpickled. The first is ["ready"] or ["failed", why]; then, until all
responses of a batch are answered, lines of [[position, parts or null, error or null], ...]. Shared memory: the position of
the response that is being graded, and when its grading began; the parent can read both whatever state the process is in.
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
    answer: str | list[str]  # the reference, or all texts that are accepted
    row: dict[str, Any]  # the prompt's other data columns


def frame(message: Any) -> bytes:
    """Return the message as a frame of the command pipe."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body
