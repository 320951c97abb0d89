"""The publisher of weights.backend=ipc: a few buffers that engine and learner on one GPU share. The other end is in weight_receiver.py.

Written against vLLM 0.32: `distributed/weight_transfer/ipc_engine.py`, which receives packed buffers.
"""

import math
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from actors.engines.vllm.trainer_transfer import free_address
from actors.weights.shm import packed_size
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.system.platform import Platform
from uec.types import WeightUpdate

if TYPE_CHECKING:
    import torch

BUFFERS = 2
BUFFER_BYTES = 256 << 20  # or the largest tensor
POLL_S = 0.001


@dataclass
class Bucket:
    """Parameters that pass through a buffer together."""

    names: list[str] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # bytes, without gaps


def buckets(parameters: dict[str, list[int]], dtype: str, limit: int) -> tuple[list[Bucket], int]:
    """Return the buckets of parameters in their order, and the size of a buffer in bytes: `limit`, or the largest tensor if above."""
    import torch

    found, used, largest = [Bucket()], 0, 0
    for name, shape in parameters.items():
        size = math.prod(shape) * getattr(torch, dtype).itemsize
        if used and used + size > limit:
            found.append(Bucket())
            used = 0
        bucket = found[-1]
        bucket.names.append(name)
        bucket.shapes.append(shape)
        bucket.dtypes.append(dtype)
        bucket.sizes.append(size)
        used += size
        largest = max(largest, used)
    return found, largest


class IpcPublisher:
    """Passes the parameters through a few buffers, whose CUDA handles the engine on the same device has.

    The buffers and their handles are made once: torch keeps what belongs to a handle as long as the memory is there
    (torch/multiprocessing/reductions.py), so that handles made anew for each publication would add up. vLLM's own sender of packed
    buffers (vllm/distributed/weight_transfer/packed_tensor.py:316) makes one for each publication, has a single buffer, and refuses a
    tensor above 1 GiB; its receiver takes these buffers as they are.

    Every rank fills its buffers in a thread and waits, through a store of torch, until the engines have read them. Gathering ZeRO-3
    parameters is a collective, and no rank needs a copy of the model.
    """

    def __init__(self, cfg: Config, platform: Platform, rank: int) -> None:
        self.cfg = cfg
        self.rank = rank
        self._dtype = platform.dtype
        self._exchange = platform.lora
        self._device = platform.device
        self._buckets: list[Bucket] = []
        self._buffers: list[torch.Tensor] = []
        self._sending: _Sending | None = None
        self._number = 0  # of the publication

    def publish(self, version: int, parameters: Iterable[tuple[str, "torch.Tensor"]]) -> WeightUpdate | None:
        """Start to pass the parameters, in the model's order and with its names."""
        self.wait()
        if not self._buffers:
            self._prepare()
        self._number += 1
        name = f"{self._number}"
        self._sending = _Sending(self._store, name, self._buckets, self._buffers, parameters, self.cfg, self._finish_copies)
        if self.rank != 0:
            return None
        # The engines have read the last publication whole, so that every rank is done with the one before.
        for number in range(len(self._buckets)):
            for counter in ("filled", "read"):
                self._store.delete_key(f"{self._number - 2}/{counter}/{number}")
        dtypes, shapes = [self._dtype] * len(self._expected), list(self._expected.values())
        pipe = {"address": self._address, "name": name, "buckets": self._buckets, "handles": self._handles}
        return WeightUpdate(
            version, "ipc", list(self._expected), dtypes, shapes, packed_size(dtypes, shapes),
            handles={"connection": {"group": "ipc", "init": {"packed": True}}, "pipe": pipe},
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until the engines have read the last buffer. Raises RunFailed if one did not."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.wait()

    def reset(self) -> None:
        """End a publication that an engine left; the next one has other names in the store."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.abort()

    def close(self) -> None:
        self.reset()
        self._buffers = []

    def _prepare(self) -> None:
        """Make the buffers and their handles, and tell every rank those of all. All ranks call this at once."""
        import torch
        from torch.distributed import TCPStore

        from actors.weights.manifest import expected_parameters

        self._expected = expected_parameters(self.cfg.model, self.cfg.lora, self._exchange)
        self._buckets, size = buckets(self._expected, self._dtype, BUFFER_BYTES)
        self._buffers = [torch.empty(size, dtype=torch.uint8, device=self._device) for _ in range(BUFFERS)]
        address = list(free_address()) if self.rank == 0 else None
        if self.rank == 0:
            self._store = TCPStore(*address, is_master=True, wait_for_workers=False)
        shared = _all_ranks((address, [share(buffer) for buffer in self._buffers]))
        self._address = shared[0][0]
        if self.rank != 0:
            self._store = TCPStore(*self._address, is_master=False)
        # One handle a device and buffer: {device: handle}.
        self._handles = [dict(handles[i] for _, handles in shared) for i in range(BUFFERS)]

    def _finish_copies(self) -> None:
        """Return when what was copied into a buffer is there for other processes."""
        import torch

        if self._device == "cuda":
            torch.cuda.current_stream().synchronize()


class _Sending:
    """A publication on its way, in a thread.

    In the store, `NAME/filled/B` counts the ranks that filled bucket B, `NAME/read/B` the engines that read it.
    """

    def __init__(
        self, store: Any, name: str, buckets: list[Bucket], buffers: list["torch.Tensor"],
        parameters: Iterable[tuple[str, "torch.Tensor"]], cfg: Config, finish_copies: Callable[[], None],
    ) -> None:  # fmt: skip
        self._store, self._name, self._buckets, self._buffers = store, name, buckets, buffers
        self._parameters = iter(parameters)
        self._cfg = cfg
        self._finish_copies = finish_copies
        self._error: BaseException | None = None
        self._aborted = threading.Event()
        device = buffers[0].device
        self._thread = threading.Thread(target=self._run, args=(device,), name="weights-ipc", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        self._thread.join(self._cfg.weights.timeout_s)
        if self._thread.is_alive():
            self.abort()
            raise RunFailed(
                f"the engines did not read the weights within weights.timeout_s={self._cfg.weights.timeout_s:g} s: "
                "one of them did not take its part"
            )
        if self._error is not None:
            raise RunFailed(f"passing the weights failed: {type(self._error).__name__}: {self._error}") from self._error

    def abort(self) -> None:
        self._aborted.set()
        self._thread.join()

    def _run(self, device: "torch.device") -> None:
        import torch

        try:
            if device.type == "cuda":
                torch.cuda.set_device(device)
            for number, bucket in enumerate(self._buckets):
                self._await_readers(number - BUFFERS)
                self._fill(self._buffers[number % BUFFERS], bucket)
                self._finish_copies()
                self._store.add(f"{self._name}/filled/{number}", 1)
            for number in range(len(self._buckets) - BUFFERS, len(self._buckets)):
                self._await_readers(number)
        except BaseException as error:
            self._error = error
        with suppress(Exception):
            for _ in self._parameters:  # the other ranks wait for this one in gathering them
                pass

    def _fill(self, buffer: "torch.Tensor", bucket: Bucket) -> None:
        import torch

        begin = 0
        for expected, size in zip(bucket.names, bucket.sizes, strict=True):
            name, tensor = next(self._parameters)
            if name != expected or tensor.numel() * tensor.element_size() != size:
                raise ValueError(f"the learner publishes {name} of {list(tensor.shape)} in {tensor.dtype} where {expected} is due")
            buffer[begin : begin + size].copy_(tensor.detach().contiguous().view(-1).view(torch.uint8))
            begin += size

    def _await_readers(self, number: int) -> None:
        """Wait until every engine has read a bucket."""
        while number >= 0 and self._store.add(f"{self._name}/read/{number}", 0) < self._cfg.rollout.engines:
            if self._aborted.wait(POLL_S):
                raise InterruptedError("the publication was ended")


def _all_ranks(mine: Any) -> list[Any]:
    """Return what each learner rank passes to this function."""
    import torch.distributed

    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return [mine]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, mine)
    return found


def share(buffer: "torch.Tensor") -> tuple[str, Any]:
    """Return the identity of the buffer's device and a handle by which a process opens the buffer."""
    import torch
    from torch.multiprocessing.reductions import reduce_tensor

    return str(torch.cuda.get_device_properties(buffer.device).uuid), reduce_tensor(buffer)[1]
