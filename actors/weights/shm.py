"""Weight updates through a file in shared memory, for engines on the publisher's machine: the CPU backend.

The file holds the tensors' bytes one after the other, each aligned to ALIGNMENT. Two files take turns, so that no engine reads
from one that is being written. Their folder is private to the run (mode 0700). The publisher holds a lock in it as long as it
lives; the next publisher removes the folders of publishers that were killed.
"""

import atexit
import errno
import fcntl
import math
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from uec.errors import RunFailed
from uec.system.cleanup import RUN
from uec.types import WeightUpdate

if TYPE_CHECKING:
    import torch

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "uec-weights-"
RUN_FOLDERS = f"{SHARED_MEMORY}/{PREFIX}*-{{run}}-*"
"""Pattern of the folders of one run, for `uec.system.cleanup.cleaned`."""
LOCK = "lock"
ALIGNMENT = 64  # bytes


def aligned(offset: int) -> int:
    """Return the next place for a tensor at or behind `offset`, in bytes."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def layout(dtypes: list[str], shapes: list[list[int]]) -> list[tuple[int, int]]:
    """Return where each tensor begins and ends in the file, in bytes."""
    import torch

    places: list[tuple[int, int]] = []
    end = 0
    for dtype, shape in zip(dtypes, shapes, strict=True):
        begin = aligned(end)
        end = begin + getattr(torch, dtype).itemsize * math.prod(shape)
        places.append((begin, end))
    return places


def packed_size(dtypes: list[str], shapes: list[list[int]]) -> int:
    """Return the bytes of all tensors in the file's layout: `nbytes` of every weight update, for each backend."""
    return layout(dtypes, shapes)[-1][1]


class ShmPublisher:
    """Writes the file on rank 0; the other ranks only take part in gathering the parameters."""

    def __init__(self, rank: int, shared_memory: Path = SHARED_MEMORY) -> None:
        self.rank = rank
        self._capacity = 0
        self._folder: Path | None = None
        if rank == 0:
            _remove_abandoned(shared_memory)
            # The host's name tells an engine elsewhere why it does not see the file.
            prefix = "-".join([f"{PREFIX}{socket.gethostname()}", *([os.environ[RUN]] if RUN in os.environ else []), ""])
            self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=shared_memory))
            self._lock = os.open(self._folder / "new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            (self._folder / "new").rename(self._folder / LOCK)  # so that a lock file which nobody holds is always abandoned
            atexit.register(self.close)

    def publish(self, version: int, parameters: Iterable[tuple[str, "torch.Tensor"]]) -> WeightUpdate | None:
        """Write (name, tensor) pairs in their order; a tensor need only live until the next is asked for.

        Raises RunFailed, with the sizes, where the shared memory is too small.
        """
        import torch

        if self.rank != 0:
            for _ in parameters:
                pass
            return None
        assert self._folder is not None, "closed"
        path = self._folder / f"{version % 2}.bin"
        names, dtypes, shapes, end = [], [], [], 0
        digest = xxhash.xxh3_128()
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            for name, tensor in parameters:
                data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
                padding = bytes(aligned(end) - end)
                self._reserve(file, path, end + len(padding) + len(data))
                for piece in (padding, data):
                    digest.update(piece)
                    _write(file, piece, end)
                    end += len(piece)
                names.append(name)
                dtypes.append(str(tensor.dtype).removeprefix("torch."))
                shapes.append(list(tensor.shape))
            os.ftruncate(file, end)
        finally:
            os.close(file)
        self._capacity = end
        self._reserve_other(path, end)
        return WeightUpdate(version, "shm", names, dtypes, shapes, end, location=str(path), digest=digest.hexdigest())

    def wait(self) -> None:
        """Do nothing: `publish` returns when the file is complete."""

    def reset(self) -> None:
        """Do nothing: the publisher does not know the engines."""

    def close(self) -> None:
        """Remove the files."""
        folder, self._folder = self._folder, None
        if folder is not None:
            atexit.unregister(self.close)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(self._lock)

    def _reserve(self, file: int, path: Path, size: int) -> None:
        """Reserve the memory now: a write without memory would kill the process without a message."""
        size = max(size, self._capacity)
        if os.fstat(file).st_size >= size:
            return
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise
            free = shutil.disk_usage(path.parent).free
            raise RunFailed(
                f"weights.backend=shm: {path} needs {size / 2**20:.0f} MiB and more, and {SHARED_MEMORY} has {free / 2**20:.0f} MiB left. "
                "Enlarge it to two copies of the weights: docker run --shm-size=SIZE, or mount -o remount,size=SIZE /dev/shm."
            ) from error

    def _reserve_other(self, path: Path, size: int) -> None:
        """Reserve the other file's memory, too, so that too little memory shows at the first update, not at the second."""
        other = path.with_name("1.bin" if path.name == "0.bin" else "0.bin")
        file = os.open(other, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            self._reserve(file, other, size)
        finally:
            os.close(file)


def check_file(update: WeightUpdate) -> None:
    """Raise RunFailed unless the published file is on this machine with the published bytes."""
    path = Path(update.location)
    if not path.exists():
        raise RunFailed(
            f"weights version {update.version} are published in {path}, which is not to be seen on {socket.gethostname()}: "
            "weights.backend=shm needs every engine on the machine of learner rank 0. Use weights.backend=nccl between machines."
        )
    size = path.stat().st_size
    if size != update.nbytes:
        raise RunFailed(f"weights version {update.version}: {path} has {size} bytes, published were {update.nbytes}")
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(1 << 24):
            digest.update(piece)
    if digest.hexdigest() != update.digest:
        raise RunFailed(f"weights version {update.version}: the bytes in {path} are not those published (digest {digest.hexdigest()})")


def read(location: str, names: list[str], dtypes: list[str], shapes: list[list[int]]) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Yield the tensors of a file that `check_file` accepted, mapped into memory."""
    import torch

    places = layout(dtypes, shapes)
    # Not shared: a shared mapping lets torch lengthen a file that is too short, with zeros.
    data = torch.from_file(location, shared=False, size=places[-1][1], dtype=torch.uint8)
    for name, dtype, shape, (begin, end) in zip(names, dtypes, shapes, places, strict=True):
        yield name, data[begin:end].view(getattr(torch, dtype)).view(shape)


def _write(file: int, piece: bytes | memoryview, offset: int) -> None:
    view = memoryview(piece)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _remove_abandoned(shared_memory: Path) -> None:
    """Remove this user's folders whose publisher is gone: the system releases a lock when its holder dies."""
    for folder in shared_memory.glob(f"{PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # removed, or being made, by another publisher at this moment
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)
