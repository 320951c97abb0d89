"""The choices that depend on the hardware: device, dtype, collectives, weight transport, engine, attention of packed rows.

No other code asks whether CUDA is available. The answer is for the calling process: on a cluster whose head node has no GPU, driver and
actors may differ, so each actor calls `detect`.
"""

from dataclasses import dataclass

from uec.config.schema import Config
from uec.errors import BadInput
from uec.system.gpu_devices import Gpu, gpu_devices

SEQUENCES = 256
SEQUENCES_LARGE_GPU = 1024
LARGE_GPU = 70 << 30


@dataclass(frozen=True, slots=True)
class Platform:
    """The choices for one device; the `auto` fields of the config are resolved."""

    device: str  # cpu or cuda, which is also DeepSpeed's name for the accelerator
    dtype: str  # of engine and learner: float32 or bfloat16
    collectives: str  # backend of torch.distributed: gloo or nccl
    weights: str  # weight transport: shm, nccl or ipc
    engine: str  # in_actor, async, or the path of a user's engine
    attention: str = "blocks"  # of the learner's packed rows: varlen or blocks
    lora: str = "none"  # what the weight sync sends of LoRA: none (no LoRA), adapter or merged


def detect(cfg: Config, device: str | None = None) -> Platform:
    """Resolve `model.dtype`, `weights.backend`, `rollout.backend`, `learner.attention` and `lora.exchange` for this process's device.

    `device` overrides the detection: a driver decides for a cluster whose devices it does not have.
    Raises BadInput if the device or the learner does not support the config.
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
        raise BadInput("model.dtype=float16 needs loss scaling, which the learner does not support; set model.dtype to bfloat16 or float32")
    if dtype == "bfloat16" and cfg.learner.zero_stage == 0:
        raise BadInput(
            "learner.zero_stage=0 keeps no float32 copy of the weights, and steps of this size are lost in bfloat16; "
            "set learner.zero_stage to 1, 2 or 3, or model.dtype=float32"
        )
    if cfg.learner.liger and not cuda:
        raise BadInput("learner.liger=true needs CUDA devices, and there are none; set learner.liger=false")
    engine = cfg.rollout.backend
    if engine == "auto":
        engine = "async" if cuda else "in_actor"
    return Platform(
        device=device,
        dtype=dtype,
        collectives="nccl" if cuda else "gloo",
        weights=weights,
        engine=engine,
        attention=_attention(cfg, cuda, dtype),
        lora=_exchange(cfg, cuda),
    )


def _exchange(cfg: Config, cuda: bool) -> str:
    """Return `lora.exchange`, resolved. vLLM's LoRA on CPU makes a tenth to a third of the tokens that it makes without."""
    if not cfg.lora.enabled:
        return "none"
    if cfg.lora.exchange == "auto":
        return "adapter" if cuda else "merged"
    return cfg.lora.exchange


def _attention(cfg: Config, cuda: bool, dtype: str) -> str:
    """Return the attention of packed rows. FlashAttention computes in half precision on CUDA only."""
    attention = cfg.learner.attention
    if attention == "varlen" and not (cuda and dtype == "bfloat16"):
        raise BadInput(
            f"learner.attention=varlen needs CUDA devices and model.dtype=bfloat16, found {'CUDA' if cuda else 'CPU'} and "
            f"model.dtype={dtype}; set learner.attention=auto"
        )
    return ("varlen" if cuda and dtype == "bfloat16" else "blocks") if attention == "auto" else attention


def has_flash_attention() -> bool:
    """Return whether this process's GPU runs torch's FlashAttention, which requires compute capability 8.0."""
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


def gpu_count() -> int:
    """Return the number of GPUs that this process sees."""
    import torch

    return torch.cuda.device_count()


def smallest_gpu() -> Gpu | None:
    """Return the GPU with the least memory that this process sees, or None."""
    return min(gpu_devices(), key=lambda gpu: gpu.bytes, default=None)


def sequences(cfg: Config, gpu: Gpu | None = None) -> int:
    """Return `rollout.max_num_seqs`, or for null the number that vLLM's `LLM` takes on this GPU, or without a GPU.

    AsyncLLM, which the engines use on GPUs, would take 128 everywhere.
    """
    large = gpu is not None and gpu.bytes >= LARGE_GPU and "a100" not in gpu.name.lower()
    return cfg.rollout.max_num_seqs or (SEQUENCES_LARGE_GPU if large else SEQUENCES)
