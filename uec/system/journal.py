"""An append-only file of records, from which the replacement of an actor restores the actor's state.

It survives the process, not the machine: nothing is flushed to disk, because a run that lost its machine resumes from a checkpoint. Each
record has its length and a digest, so that a record that was cut off by the death of its writer ends the file.

    <length: 8 bytes, little endian> <xxh3_64 of the content: 8 bytes> <content>
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import xxhash

HEADER = struct.Struct("<QQ")


class Journal:
    """One file with one writer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = 0  # after the first one
        self._file: int | None = None

    def append(self, content: bytes) -> None:
        """Add a record in one write. Raises OSError, and then the file ends with the record before."""
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        before = os.fstat(self._file).st_size
        record = _record(content)
        written = os.write(self._file, record)
        if written != len(record):  # the disk is full
            os.ftruncate(self._file, before)
            raise OSError(f"{self.path}: a record of {len(record)} bytes did not fit")
        self.records += 1

    def restart(self, content: bytes) -> None:
        """Replace all records by one, atomically."""
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_bytes(_record(content))
        os.replace(temporary, self.path)
        self.close()
        self.records = 0

    def read(self) -> Iterator[bytes]:
        """Yield the complete records, and cut off what follows them. Later records are appended."""
        end = 0
        with self.path.open("rb") as file:
            while len(header := file.read(HEADER.size)) == HEADER.size:
                length, digest = HEADER.unpack(header)
                content = file.read(min(length, self.path.stat().st_size))
                if len(content) != length or xxhash.xxh3_64_intdigest(content) != digest:
                    break
                self.records += end > 0
                end += HEADER.size + length
                yield content
        os.truncate(self.path, end)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _record(content: bytes) -> bytes:
    return HEADER.pack(len(content), xxhash.xxh3_64_intdigest(content)) + content
