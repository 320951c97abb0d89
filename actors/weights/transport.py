"""The two ends of a weight transport: a publisher on each learner rank, and `check_weights`, `load_weights` of each engine.

transport  weights travel by           learner's end                   engine's end
shm        a file in shared memory     weights/shm.py                  engines/vllm/shm_receiver.py   CPU, one machine
nccl       a broadcast between GPUs    engines/vllm/trainer_transfer   vLLM's                         CUDA, any machines
ipc        CUDA handles                engines/vllm/ipc_publisher      vLLM's                         CUDA, one device for both
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from uec.types import WeightUpdate

if TYPE_CHECKING:
    import torch


class Publisher(Protocol):
    """A learner rank's end. All ranks call it with the same parameters in the same order."""

    def publish(self, version: int, parameters: Iterable[tuple[str, "torch.Tensor"]]) -> WeightUpdate | None:
        """Make a version of the weights ready for the engines; rank 0 returns the update that they load."""

    def wait(self) -> None:
        """Return when the engines have every tensor; call it before the parameters change or move."""

    def reset(self) -> None:
        """Forget the engines, also in the middle of an update that one of them left: the next update meets all of them anew."""

    def close(self) -> None:
        """Free what the transport holds."""
