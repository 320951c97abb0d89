"""The GPUs that this process sees, and the memory in use on them. `platform.py` decides what a run does with them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU's name and memory."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Device(Gpu):
    """A GPU that PyTorch sees."""

    capability: tuple[int, int]


def gpu_devices() -> list[Device]:
    """Return every GPU that this process sees; none without CUDA."""
    import torch

    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [Device(gpu.name, gpu.total_memory, (gpu.major, gpu.minor)) for gpu in found]


def used_gpu_bytes() -> int:
    """Return the bytes that all processes together use on this process's GPU."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return total - free
