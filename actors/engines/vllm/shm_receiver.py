"""The receiving end of weights.backend=shm inside vLLM's worker: a weight transfer engine for vLLM.

vLLM's own backends need CUDA. Written against vLLM 0.32: `distributed/weight_transfer/base.py` and
`model_executor/model_loader/reload/layerwise.py`.
"""

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.layers.fused_moe.routed_experts import RoutedExperts
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from actors.weights.shm import read
from uec.errors import BadInput


@dataclass
class ShmInitInfo(WeightTransferInitInfo):
    """This is empty, because the two ends send nothing before the first update."""


@dataclass
class ShmUpdateInfo(WeightTransferUpdateInfo):
    """The file of a weight update, and the tensors in it."""

    location: str = ""
    names: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)


class ShmWeightTransferEngine(WeightTransferEngine[ShmInitInfo, ShmUpdateInfo]):
    """Loads the tensors of a mapped file. Updates are checked before; a failure here leaves the engine unusable."""

    init_info_cls = ShmInitInfo
    update_info_cls = ShmUpdateInfo

    def init_transfer_engine(self, init_info: ShmInitInfo) -> None:
        """Raise BadInput for a model that an update would leave stale in part."""
        if self.device.type == "cpu" and any(isinstance(module, RoutedExperts) for module in self.model.modules()):
            raise BadInput(
                "model.path: vLLM's CPU kernels keep a packed copy of a mixture-of-experts model's experts that an update does not "
                "renew, so it cannot be trained on CPU; take a dense model, or GPUs"
            )
        # vLLM warns at each update that rotary embeddings (which have no weights) and a tied lm_head (see `repack`) got no weights.
        logging.getLogger("vllm.model_executor.model_loader.reload.layerwise").setLevel(logging.ERROR)

    def start_weight_update(self) -> None:
        with self._on_device():
            initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":  # where there is no accelerator, synchronize() raises
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: ShmUpdateInfo) -> None:
        tensors = read(update_info.location, update_info.names, update_info.dtypes, update_info.shapes)
        with self._on_device():
            self.model.load_weights(tensors)  # type: ignore[operator]

    def finish_weight_update(self) -> None:
        with self._on_device():
            finalize_layerwise_reload(self.model, self.model_config)
            self.repack()

    def _on_device(self) -> AbstractContextManager[object]:
        """Make new tensors on the model's device. The CPU is torch's default; setting it would slow every torch call of the update."""
        return nullcontext() if self.device.type == "cpu" else self.device

    def repack(self) -> None:
        """Renew the packed weights that vLLM's CPU layers compute with, where reloading left the old ones.

        A tied lm_head loads no weight: it shares the embedding's new weight, but its packed copy is old.
        """
        for module in self.model.modules():
            weight = module._parameters.get("weight")
            if hasattr(module, "cpu_linear") and weight is not None and weight.numel():
                dispatch_cpu_unquantized_gemm(module, remove_weight=False)

    def shutdown(self) -> None:
        """Do nothing, because no resources are held between updates."""
