"""The weight exchange: publishers on the learners' side, the receiver on the engines' side, and vLLM's plugin.

    shm    a file in shared memory           shm.py, engines/vllm/shm_receiver.py   CPU, one machine
    nccl   broadcast over a group of its own cuda.py, vLLM's own                    CUDA, any machines
    ipc    CUDA handles                      cuda.py, vLLM's own                    CUDA, learner and engine on one device
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from actors.weights.manifest import check, expected_parameters
from actors.weights.shm import ShmPublisher, check_file
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.system.platform import Platform, detect
from uec.types import WeightUpdate

if TYPE_CHECKING:
    import torch

    from actors.engines.vllm.job import Engine


def register() -> None:
    """vLLM calls this in each of its processes (entry point `vllm.general_plugins` in setup.cfg), maybe more than once."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if "shm" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("shm", "actors.engines.vllm.shm_receiver", "ShmWeightTransferEngine")


class Publisher(Protocol):
    """A learner rank's end. All ranks call it with the same parameters in the same order."""

    def publish(self, version: int, parameters: Iterable[tuple[str, "torch.Tensor"]]) -> WeightUpdate | None:
        """Make a version of the weights ready for the engines; rank 0 returns what to tell them."""

    def wait(self) -> None:
        """Return when the engines have all of it: to be called before the parameters change or move."""

    def close(self) -> None:
        """Free what the exchange holds."""


def make_publisher(cfg: Config, rank: int) -> Publisher:
    """The publisher of a learner rank for the backend that config and platform give."""
    platform = detect(cfg)
    if platform.weights == "shm":
        return ShmPublisher(rank)
    from actors.weights.cuda import IpcPublisher, NcclPublisher

    return NcclPublisher(cfg, platform, rank) if platform.weights == "nccl" else IpcPublisher(cfg, rank)






class Receiver:
    """An engine's end."""

    def __init__(self, cfg: Config, platform: Platform, rank: int) -> None:
        self.cfg = cfg
        self.backend = platform.weights
        self.rank = rank
        self._group: str | None = None  # the connection that was made, for backends that need one

    async def start(self, engine: "Engine") -> None:
        """Learn what the model's parameters are; to be called once."""
        self._expected = expected_parameters(self.cfg.model)
        if self.backend == "shm":
            await engine.workers("init_weight_transfer_engine", init_info={})

    def check(self, publication: WeightUpdate) -> None:
        """Raise RunFailed, with the cause, if the publication must not be taken. Leaves the engine alone."""
        if publication.backend != self.backend:
            raise RunFailed(f"weights version {publication.version} come by {publication.backend}, the engine takes {self.backend}")
        check(publication, self._expected)
        if self.backend == "shm":
            check_file(publication)

    async def take(self, engine: "Engine", publication: WeightUpdate) -> None:
        """Load the weights into every worker of an engine in which nothing is running."""
        connection = publication.handles.get("connection")
        if connection is not None and connection["group"] != self._group:
            await self._connect(engine, connection)
        await engine.workers("start_weight_update")
        await engine.workers("update_weights", update_info=self._update_info(publication))
        await engine.workers("finish_weight_update")

    async def _connect(self, engine: "Engine", connection: dict[str, Any]) -> None:
        """Join the publisher's group; with nccl it blocks until every engine has."""
        if self._group is not None:
            await engine.workers("shutdown_weight_transfer_engine")
        init = dict(connection["init"])
        if "rank_offset" in init:
            init["rank_offset"] = 1 + self.rank * self.cfg.rollout.tensor_parallel
        await engine.workers("init_weight_transfer_engine", init_info=init)
        self._group = connection["group"]

    def _update_info(self, publication: WeightUpdate) -> dict[str, Any]:
        names, shapes = publication.names, publication.shapes
        if self.backend == "shm":
            return {"location": publication.location, "names": names, "dtypes": publication.dtypes, "shapes": shapes}
        info = {"names": names, "dtype_names": publication.dtypes, "shapes": shapes}
        if self.backend == "ipc":
            info["ipc_handles"] = publication.handles["parameters"]
        return info
