"""Gloo in place of NCCL, and threads in place of actors: a learner and engines with the real two ends of weights.backend=nccl."""

import asyncio
import socket
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import ray
import torch
from torch.distributed import BroadcastOptions, PrefixStore, ProcessGroupGloo, TCPStore

from actors.engines.vllm.trainer_transfer import NcclPublisher
from actors.engines.vllm.weight_receiver import WeightReceiver
from actors.workers.learner import LearnerActor
from uec.system.platform import Platform
from uec.types import WeightUpdate

PLATFORM = Platform("cpu", "float32", "gloo", "nccl", "async")
SHAPES = {"a": [3], "b": [2, 2]}
TIMEOUT = timedelta(seconds=60)


def free_address() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1", probe.getsockname()[1]


def join(address: str, port: int, rank: int, size: int) -> ProcessGroupGloo:
    """Return when all `size` ranks have joined, as PyNcclCommunicator does."""
    store = TCPStore(address, port, size, is_master=rank == 0, timeout=TIMEOUT)
    return ProcessGroupGloo(PrefixStore("weights", store), rank, size, timeout=TIMEOUT)


def broadcast(group: ProcessGroupGloo, tensor: torch.Tensor) -> None:
    options = BroadcastOptions()
    options.rootRank = 0
    group.broadcast([tensor], options).wait()


class GlooTrainer:
    """In place of vLLM's NCCLTrainerWeightTransferEngine."""

    def __init__(self, init: Any, source: Any) -> None:
        self.source = source
        self.group = join(init.master_address, init.master_port, 0, init.world_size)

    def send_weights(self) -> None:
        for _, tensor in self.source:
            broadcast(self.group, tensor.clone())

    def shutdown(self) -> None:
        del self.group


class GlooCore:
    """In place of an EngineCore with one worker, whose transfer engine is vLLM's NCCLWeightTransferEngine."""

    def __init__(self) -> None:
        self.held: dict[str, list[float]] = {}
        self.joined: list[int] = []  # ports
        self.killed = False
        self.dies_in_update = self.waits_in_update = False
        self.group: ProcessGroupGloo | None = None

    async def workers(self, method: str, **arguments: Any) -> list[Any]:
        match method:
            case "init_weight_transfer_engine":
                init = arguments["init_info"]
                place = init["master_address"], init["master_port"], init["rank_offset"], init["world_size"]
                self.group = await asyncio.to_thread(join, *place)
                self.joined.append(init["master_port"])
            case "update_weights":
                if self.dies_in_update:
                    self.killed, self.group = True, None
                    raise dead()
                if self.waits_in_update:
                    await asyncio.Event().wait()  # as NCCL waits for a dead rank
                await asyncio.to_thread(self._receive, arguments["update_info"])
            case "shutdown_weight_transfer_engine":
                self.group = None
        return [None]

    def _receive(self, info: dict[str, Any]) -> None:
        for name, shape in zip(info["names"], info["shapes"], strict=True):
            tensor = torch.empty(shape)
            broadcast(self.group, tensor)
            self.held[name] = tensor.flatten().tolist()


def dead() -> ray.exceptions.RayActorError:
    return ray.exceptions.RayActorError()


def remote(method: Any) -> SimpleNamespace:
    return SimpleNamespace(remote=method)


class EngineHandle:
    """In place of a RolloutActor's handle: the real receiving end on a GlooCore."""

    def __init__(self, cfg: Any, rank: int) -> None:
        self.core, self.version = GlooCore(), 0
        self.receiver = WeightReceiver(cfg, PLATFORM, rank, self.core)
        self.start, self.ready, self.update_weights = remote(self._start), remote(self._ready), remote(self._update)
        self.__ray_ready__ = remote(self._ready)

    async def _start(self, prompts: object) -> dict[str, float]:
        return {}

    async def _ready(self) -> None:
        if self.core.killed:
            raise dead()

    async def _update(self, update: WeightUpdate) -> None:
        await self._ready()
        await self.receiver.load(update)
        self.version = update.version


class LearnerHandle:
    """In place of a LearnerActor's handle: the real publishing end; the policy is two tensors of one number."""

    def __init__(self, cfg: Any) -> None:
        self.number = 0.0
        self.learner = LearnerActor(cfg, 0)
        self.learner.publisher = NcclPublisher(cfg, PLATFORM, 0)
        exported = lambda: ((name, torch.full(shape, self.number)) for name, shape in SHAPES.items())  # noqa: E731
        self.learner.policy_model = SimpleNamespace(exported=exported)
        self.publish = remote(lambda *args: asyncio.to_thread(self.learner.publish, *args))

    def learn(self) -> None:
        self.number += 1
        self.learner._shared = None
