"""The weight exchange: publishers on the learners' side, the receiver on the engines' side, and vLLM's plugin.

    shm    a file in shared memory           weights_shm.py, weights_worker.py   CPU, one machine
    nccl   broadcast over a group of its own weights_cuda.py, vLLM's own         CUDA, any machines
    ipc    CUDA handles                      weights_cuda.py, vLLM's own         CUDA, learner and engine on one device
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from actors.weights_shm import ShmPublisher, check_file, packed_size
from uec.config import Config, Model
from uec.errors import RunFailed
from uec.platform import Platform, detect
from uec.types import Publication

if TYPE_CHECKING:
    import torch

    from actors.engine import Engine


def register() -> None:
    """vLLM calls this in each of its processes (entry point `vllm.general_plugins` in setup.cfg), maybe more than once."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if "shm" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("shm", "actors.weights_worker", "ShmWeightTransferEngine")


class Publisher(Protocol):
    """A learner rank's end. All ranks call it with the same parameters in the same order."""

    def publish(self, version: int, parameters: Iterable[tuple[str, "torch.Tensor"]]) -> Publication | None:
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
    from actors.weights_cuda import IpcPublisher, NcclPublisher

    return NcclPublisher(cfg, platform, rank) if platform.weights == "nccl" else IpcPublisher(cfg, rank)


def expected_parameters(model: Model) -> dict[str, list[int]]:
    """Names and shapes of the parameters that a learner publishes: those of the transformers model that it trains, tied ones once."""
    import torch

    from uec.models.engine import freeze
    from uec.models.source import auto_class, load_config

    config = load_config(model)
    with torch.device("meta"):
        hf = auto_class(config).from_config(config, trust_remote_code=model.trust_remote_code)
    freeze(hf, model)
    return {name: list(parameter.shape) for name, parameter in hf.named_parameters() if parameter.requires_grad}


def check(publication: Publication, expected: dict[str, list[int]]) -> None:
    """Raise RunFailed unless a publication names every parameter of the model with its shape, and nothing else.

    vLLM itself takes an incomplete list without a word, and is lost after a wrong one.
    """
    found = dict(zip(publication.names, publication.shapes, strict=True))
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is no parameter of the model" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} has shape {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and list(found[name]) != shape
    ]
    problems += [f"{name} is no dtype of weights" for name in set(publication.dtypes) - {"float32", "bfloat16", "float16"}]
    if len(publication.names) != len(found):
        problems.append("a name is there twice")
    if not problems:
        nbytes = packed_size(publication.dtypes, publication.shapes)
        if nbytes != publication.nbytes:
            problems.append(f"the parameters have {nbytes} bytes, published were {publication.nbytes}")
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise RunFailed(f"weights version {publication.version} do not fit the engine's model: {shown}")


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

    def check(self, publication: Publication) -> None:
        """Raise RunFailed, with the cause, if the publication must not be taken. Leaves the engine alone."""
        if publication.backend != self.backend:
            raise RunFailed(f"weights version {publication.version} come by {publication.backend}, the engine takes {self.backend}")
        check(publication, self._expected)
        if self.backend == "shm":
            check_file(publication)

    async def take(self, engine: "Engine", publication: Publication) -> None:
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

    def _update_info(self, publication: Publication) -> dict[str, Any]:
        names, shapes = publication.names, publication.shapes
        if self.backend == "shm":
            return {"location": publication.location, "names": names, "dtypes": publication.dtypes, "shapes": shapes}
        info = {"names": names, "dtype_names": publication.dtypes, "shapes": shapes}
        if self.backend == "ipc":
            info["ipc_handles"] = publication.handles["parameters"]
        return info
