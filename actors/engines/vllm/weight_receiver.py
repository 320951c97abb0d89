"""The engine's end of the weight transports: it checks an update, then makes vLLM's workers load it."""

import asyncio
from typing import TYPE_CHECKING, Any

from actors.engines.vllm.job import EngineCore
from actors.weights.manifest import check, expected_parameters
from actors.weights.shm import check_file
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.system.platform import Platform
from uec.types import WeightUpdate

if TYPE_CHECKING:
    from actors.engines.vllm.ipc_publisher import Bucket

POLL_S = 0.001


class WeightReceiver:
    """Loads weight updates into the workers of one engine."""

    def __init__(self, cfg: Config, platform: Platform, rank: int, core: EngineCore) -> None:
        """Read the names and shapes of the model's parameters. Call this before vLLM builds the model, which may patch its class."""
        self._expected = expected_parameters(cfg.model, cfg.lora, platform.lora)
        self.cfg = cfg
        self.backend = platform.weights
        self.exchange = platform.lora
        self.rank = rank
        self._core = core
        self._store: Any = None  # of ipc
        self._group: str | None = None  # the connection that was made, for backends that need one

    async def start(self) -> None:
        """Prepare the workers; call this once."""
        if self.backend == "shm":
            await self._core.workers("init_weight_transfer_engine", init_info={})

    def check(self, update: WeightUpdate) -> None:
        """Raise RunFailed, with the cause, if the update must not be loaded. Leaves the engine alone."""
        if update.backend != self.backend:
            raise RunFailed(f"weights version {update.version} come by {update.backend}, the engine takes {self.backend}")
        if update.kind != (kind := "adapter" if self.exchange == "adapter" else "whole"):
            raise RunFailed(f"weights version {update.version} are of kind {update.kind}, and this engine loads kind {kind} only")
        check(update, self._expected)
        if self.backend == "shm":
            check_file(update)

    async def load(self, update: WeightUpdate) -> None:
        """Load the weights into every worker. Nothing is running, or the engine is paused."""
        connection = update.handles.get("connection")
        if connection is not None and connection["group"] != self._group:
            await self._connect(connection)
        adapter = update.kind == "adapter"
        await self._core.workers("start_adapter_update" if adapter else "start_weight_update")
        if self.backend == "ipc":
            await self._read_buckets(**update.handles["pipe"])
        else:
            await self._core.workers("update_weights", update_info=self._update_info(update))
        if adapter:
            await self._core.workers("finish_adapter_update", rank=self.cfg.lora.rank, scale=self.cfg.lora.scale())
        else:
            await self._core.workers("finish_weight_update")

    async def _read_buckets(self, address: list[Any], name: str, buckets: list["Bucket"], handles: list[dict[str, Any]]) -> None:
        """Load what the learners pass through their buffers; see IpcPublisher."""
        if self._store is None:
            from torch.distributed import TCPStore

            self._store = await asyncio.to_thread(TCPStore, *address, is_master=False)
        for number, bucket in enumerate(buckets):
            while self._store.add(f"{name}/filled/{number}", 0) < self.cfg.learner.ranks:
                await asyncio.sleep(POLL_S)
            info = {
                "names": bucket.names,
                "dtype_names": bucket.dtypes,
                "shapes": bucket.shapes,
                "tensor_sizes": bucket.sizes,
                "ipc_handles": handles[number % len(handles)],
            }
            await self._core.workers("update_weights", update_info=info)
            self._store.add(f"{name}/read/{number}", 1)

    async def _connect(self, connection: dict[str, Any]) -> None:
        """Join the publisher's group; with nccl this blocks until every engine has joined."""
        if self._group is not None:
            await self._core.workers("shutdown_weight_transfer_engine")
        init = dict(connection["init"])
        if "rank_offset" in init:
            init["rank_offset"] = 1 + self.rank * self.cfg.rollout.tensor_parallel
        await self._core.workers("init_weight_transfer_engine", init_info=init)
        self._group = connection["group"]

    def _update_info(self, update: WeightUpdate) -> dict[str, Any]:
        """Return the fields of vLLM's update info (of ShmUpdateInfo for shm)."""
        names, shapes = update.names, update.shapes
        if self.backend == "shm":
            return {"location": update.location, "names": names, "dtypes": update.dtypes, "shapes": shapes}
        return {"names": names, "dtype_names": update.dtypes, "shapes": shapes}
