"""What the hardware decides, in one place: device, dtype, collectives, weight exchange, engine.

The only code that asks whether CUDA is there. It answers for the process that asks: on a cluster whose head node has
no GPU, the driver and the actors may differ, so each actor asks for itself.
"""

from dataclasses import dataclass

from uec.config.schema import Config
from uec.errors import BadInput


@dataclass(frozen=True, slots=True)
class Platform:
    """The choices that follow from the device, `auto` fields of the config resolved."""

    device: str  # cpu or cuda; also DeepSpeed's name of the accelerator
    dtype: str  # float32, bfloat16 or float16: of engine and learner
    collectives: str  # backend of torch.distributed: gloo or nccl
    weights: str  # weight exchange: shm, nccl or ipc
    engine: str  # in_actor or async


def detect(cfg: Config, device: str | None = None) -> Platform:
    """Resolve `model.dtype`, `weights.backend` and `rollout.backend` for this process's device.

    `device` overrides detection: for a driver that decides for a cluster whose devices it does not have.
    Raises BadInput where the config asks for what the device or the learner cannot do.
    """
    if device is None:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    cuda = device == "cuda"
    dtype = cfg.model.dtype
    if dtype == "auto":
        dtype = "bfloat16" if cuda else "float32"
    weights = cfg.weights.backend
    if weights == "auto":
        weights = ("ipc" if cfg.cluster.placement == "colocated" else "nccl") if cuda else "shm"
    if weights != "shm" and not cuda:
        raise BadInput(f"weights.backend={weights} needs CUDA devices, and there are none; set weights.backend=auto")
    if dtype == "float16":
        raise BadInput("model.dtype=float16 needs loss scaling, which the learner does not do; set model.dtype to bfloat16 or float32")
    if dtype == "bfloat16" and cfg.learner.zero_stage == 0:
        raise BadInput(
            "learner.zero_stage=0 keeps no float32 copy of the weights, and steps of this size are lost in bfloat16; "
            "set learner.zero_stage to 1, 2 or 3, or model.dtype=float32"
        )
    engine = cfg.rollout.backend
    if engine == "auto":
        engine = "async" if cuda else "in_actor"
    return Platform(
        device=device,
        dtype=dtype,
        collectives="nccl" if cuda else "gloo",
        weights=weights,
        engine=engine,
    )


def gpu_count() -> int:
    """GPUs that this process sees."""
    import torch

    return torch.cuda.device_count()


def gpu_bytes() -> int | None:
    """Memory of the least of the GPUs that this process sees, in bytes; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    return min(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
