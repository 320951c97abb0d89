"""Both ends of weights.backend=ipc on CPU: the handle of a buffer is its number, in place of CUDA's."""

import asyncio
import math
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from actors.engines.vllm import ipc_publisher
from actors.engines.vllm.ipc_publisher import IpcPublisher, buckets
from actors.engines.vllm.weight_receiver import WeightReceiver
from actors.weights import manifest
from tests.support.gloo_transfer import free_address
from uec.errors import RunFailed
from uec.system.platform import Platform

SHAPES = {"embedding": [40, 4], "a": [7], "b": [2, 3], "c": [9], "d": [1]}  # bytes in float32: 640, 28, 24, 36, 4
PLATFORM = Platform("cpu", "float32", "gloo", "ipc", "async")


class Handles:
    """In place of the CUDA function that makes a handle of memory."""

    def __init__(self) -> None:
        self.buffers: list[torch.Tensor] = []

    def share(self, buffer: torch.Tensor) -> tuple[str, int]:
        self.buffers.append(buffer)
        return "device", len(self.buffers) - 1


class Core:
    """In place of an EngineCore: reads packed buckets as vLLM's IPCWeightTransferEngine does."""

    def __init__(self, handles: Handles) -> None:
        self.handles = handles
        self.calls: list[str] = []
        self.held: dict[str, torch.Tensor] = {}

    async def workers(self, method: str, **arguments: Any) -> list[Any]:
        self.calls.append(method)
        if method == "init_weight_transfer_engine":
            assert arguments["init_info"] == {"packed": True}
        if method == "update_weights":
            info = arguments["update_info"]
            buffer = self.handles.buffers[info["ipc_handles"]["device"]]
            pieces = buffer[: sum(info["tensor_sizes"])].split(info["tensor_sizes"])
            for name, dtype, shape, piece in zip(info["names"], info["dtype_names"], info["shapes"], pieces, strict=True):
                self.held[name] = piece.view(getattr(torch, dtype)).view(shape).clone()
        return [None]


def parameters(value: float, buffer: torch.Tensor | None = None) -> Any:
    """Yield parameters as ZeRO-3 gathers them: one memory for all, valid until the next one is asked for."""
    memory = torch.empty(160) if buffer is None else buffer
    for number, (name, shape) in enumerate(SHAPES.items()):
        memory.fill_(value + number / 8)
        yield name, memory[: math.prod(shape)].view(shape)


@pytest.fixture
def ends(make_config, monkeypatch):
    handles = Handles()
    monkeypatch.setattr(ipc_publisher, "share", handles.share)
    monkeypatch.setattr(ipc_publisher, "free_address", free_address)
    monkeypatch.setattr(ipc_publisher, "BUFFER_BYTES", 64)
    monkeypatch.setattr(manifest, "expected_parameters", lambda *_: SHAPES)
    cfg = make_config("rollout.engines=1", "learner.ranks=1", "weights.timeout_s=20")
    core = Core(handles)
    publisher, engine = IpcPublisher(cfg, PLATFORM, 0), WeightReceiver(cfg, PLATFORM, 0, core)
    return SimpleNamespace(handles=handles, core=core, publisher=publisher, engine=engine)


def test_buckets_keep_the_order_and_a_buffer_holds_the_largest_tensor():
    found, size = buckets(SHAPES, "float32", 64)
    assert [bucket.names for bucket in found] == [["embedding"], ["a", "b"], ["c", "d"]]
    assert [bucket.sizes for bucket in found] == [[640], [28, 24], [36, 4]] and size == 640


def test_two_hundred_versions_pass_bit_for_bit_and_nothing_grows(ends):
    async def main() -> None:
        keys = set()
        for version in range(200):
            await ends.engine.load(ends.publisher.publish(version, parameters(version)))
            ends.publisher.wait()
            keys.add(ends.publisher._store.num_keys())
            for number, name in enumerate(SHAPES):
                assert (ends.core.held[name] == version + number / 8).all() and list(ends.core.held[name].shape) == SHAPES[name]
        assert len(ends.handles.buffers) == 2 and {buffer.numel() for buffer in ends.handles.buffers} == {640}
        assert max(keys) <= 14  # two publications of three buckets with two counters, and torch's own
        one = ["start_weight_update", *["update_weights"] * 3, "finish_weight_update"]
        assert ends.core.calls == ["init_weight_transfer_engine", *one * 200]

    asyncio.run(main())


def test_a_buffer_is_filled_again_only_after_the_engine_has_read_it(ends):
    ends.publisher.publish(1, parameters(1.0))
    store, sending = ends.publisher._store, ends.publisher._sending
    while store.add("1/filled/1", 0) == 0:
        pass
    sending._thread.join(0.3)
    assert store.add("1/filled/2", 0) == 0  # the third bucket waits for the first buffer
    store.add("1/read/0", 1)
    while store.add("1/filled/2", 0) == 0:
        pass
    ends.publisher.reset()


def test_the_publisher_keeps_no_tensor_of_the_learner(ends):
    memory = torch.empty(160)
    seen = weakref.ref(memory)
    asyncio.run(ends.engine.load(ends.publisher.publish(1, parameters(1.0, memory))))
    ends.publisher.wait()
    del memory
    assert seen() is None


def test_a_publication_that_an_engine_left_ends_and_the_next_one_is_whole(ends):
    async def main() -> None:
        ends.publisher.publish(1, parameters(1.0))  # nobody reads it
        ends.publisher.reset()
        await ends.engine.load(ends.publisher.publish(1, parameters(2.0)))
        ends.publisher.wait()
        assert (ends.core.held["embedding"] == 2).all()

    asyncio.run(main())


def test_an_engine_that_does_not_read_ends_the_wait_with_the_cause(ends):
    ends.publisher.cfg.weights.timeout_s = 0.1
    ends.publisher.publish(1, parameters(1.0))
    with pytest.raises(RunFailed, match="the engines did not read the weights within weights.timeout_s=0.1 s"):
        ends.publisher.wait()
    ends.publisher.publish(2, iter([("other", torch.zeros(1))]))
    with pytest.raises(RunFailed, match="passing the weights failed: ValueError: the learner publishes other of .1. in torch.float32"):
        ends.publisher.wait()
