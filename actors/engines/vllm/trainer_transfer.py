"""The publisher of weights.backend=nccl: the trainer side of vLLM's own weight transfer.

vLLM's trainer engine drives the inference side through a client. Here the driver does, with the WeightUpdate that `publish`
returns, so the client only records what the trainer engine sends: see Outbox.
Written against vLLM 0.32: `distributed/weight_transfer/nccl_engine.py`.
"""

import socket
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from actors.weights.shm import packed_size
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.system.platform import Platform
from uec.types import WeightUpdate

if TYPE_CHECKING:
    import torch


class Outbox:
    """A VLLMWeightSyncClient of vLLM that records the messages, which go into a WeightUpdate."""

    def __init__(self) -> None:
        self.init: dict[str, Any] = {}
        self.update: dict[str, Any] = {}

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.init = init_info

    def start_weight_update(self) -> None:
        """Do nothing: the engine starts it when it loads the update."""

    def update_weights(self, update_info: Any) -> None:
        self.update = update_info

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Do nothing: the engine finishes it when it has loaded the update."""


def _source(metadata: list[Any]) -> Any:
    """Return a vLLM WeightSource whose `parameters` are set anew for each update."""
    from vllm.distributed.weight_transfer.base import WeightSource

    class Source(WeightSource):
        parameters: Iterable[tuple[str, "torch.Tensor"]] = ()

        def metadata(self) -> list[Any]:
            return metadata

        def __iter__(self) -> Iterator[tuple[str, "torch.Tensor"]]:
            return iter(self.parameters)

    return Source()


class NcclPublisher:
    """Broadcasts from rank 0 to every engine worker, over an NCCL group of rank 0 and all workers.

    A broadcast ends only with its receivers, which start when they have the update: it continues in a thread, on every rank,
    since gathering ZeRO-3 parameters is a collective. Call `wait` before the parameters change.
    """

    def __init__(self, cfg: Config, platform: Platform, rank: int) -> None:
        self.cfg = cfg
        self.rank = rank
        self._dtype = platform.dtype
        self._exchange = platform.lora
        self._device = platform.device
        self._trainer: Any = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.reset()

    def reset(self) -> None:
        """Leave the group, and form a new one with another port at the next update. Raises RunFailed if a broadcast cannot be ended.

        vLLM's shutdown aborts the communicator (vllm/distributed/device_communicators/pynccl.py:250), so that a broadcast which waits for
        a dead engine ends; what it reports then does not matter. Before the group is complete there is nothing to abort: the meeting
        ends by vLLM's own time limit of 300 s (vllm/distributed/utils.py:471).
        """
        self._group = uuid.uuid4().hex
        self._leave()
        if self._thread is not None:
            self._thread.join(self.cfg.weights.timeout_s)
            if self._thread.is_alive():
                raise RunFailed(
                    "an engine died within a weight update, and its broadcast could not be ended; resume from the last checkpoint"
                )
            self._leave()
        self._thread = self._error = None

    def _leave(self) -> None:
        trainer, self._trainer = self._trainer, None
        if trainer is not None:
            trainer.shutdown()

    def publish(self, version: int, parameters: Iterable[tuple[str, "torch.Tensor"]]) -> WeightUpdate | None:
        """Start to broadcast the parameters, in the model's order and with its names."""
        import torch
        from vllm.distributed.weight_transfer.base import ParamMeta

        from actors.weights.manifest import expected_parameters

        self.wait()
        if self._trainer is None:
            self._expected = expected_parameters(self.cfg.model, self.cfg.lora, self._exchange)
            dtype = getattr(torch, self._dtype)
            self._source = _source([ParamMeta(name, dtype, tuple(shape)) for name, shape in self._expected.items()])
            self._address, self._port = free_address()
        self._source.parameters = iter(parameters)
        device = torch.cuda.current_device() if self._device == "cuda" else None  # of this thread; the new thread must set it, too
        self._thread = threading.Thread(target=self._send, args=(device,), name="weights-broadcast", daemon=True)
        self._thread.start()
        if self.rank != 0:
            return None
        dtypes, shapes = [self._dtype] * len(self._expected), list(self._expected.values())
        workers = self.cfg.rollout.engines * self.cfg.rollout.tensor_parallel
        init = {"master_address": self._address, "master_port": self._port, "rank_offset": 1, "world_size": 1 + workers, "packed": True}
        return WeightUpdate(
            version, "nccl", list(self._expected), dtypes, shapes, packed_size(dtypes, shapes),
            handles={"connection": {"group": self._group, "init": init}},
        )  # fmt: skip

    def wait(self) -> None:
        """Wait for the broadcast to end. Raises RunFailed if it failed."""
        if self._thread is not None:
            self._thread.join(self.cfg.weights.timeout_s)
            if self._thread.is_alive():
                raise RunFailed(
                    f"the broadcast of the weights did not end within weights.timeout_s={self.cfg.weights.timeout_s:g} s: "
                    "an engine did not take its part"
                )
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise RunFailed(f"the broadcast of the weights failed: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        self.reset()

    def _send(self, device: int | None) -> None:
        import torch
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        try:
            if device is not None:
                torch.cuda.set_device(device)
            trainer = self._trainer
            if trainer is None:
                workers = self.cfg.rollout.engines * self.cfg.rollout.tensor_parallel
                init = NCCLTrainerInitInfo(self._address, self._port, 1 + workers, rank=self.rank)
                trainer = WeightTransferTrainerFactory.trainer_init(init, client=Outbox(), source=self._source)
                self._trainer = trainer
            trainer.send_weights()
        except BaseException as error:
            self._error = error
            with suppress(Exception):
                for _ in self._source.parameters:  # the other ranks wait for this one in gathering them
                    pass


def free_address() -> tuple[str, int]:
    """Return an address of this machine that other machines reach, and a free port."""
    import ray

    with socket.socket() as probe:
        probe.bind(("", 0))
        return ray.util.get_node_ip_address(), probe.getsockname()[1]
