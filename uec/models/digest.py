"""A digest of tensors that is computed where they are: only eight bytes of each leave the device."""

from collections.abc import Iterable

import torch
import xxhash
from torch import Tensor

PIECE = 1 << 24  # elements; bounds the memory
FACTOR = 0x9E3779B97F4A7C15 - (1 << 64)  # odd, as a signed number: 2^64 divided by the golden ratio
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return a digest of (name, tensor) pairs, which depends on every bit; a tensor need only live until the next is asked for.

    Equal bits give equal digests. Different bits give different ones but for a chance of about 2^-64 in a tensor.
    """
    names, sums = [], []
    for name, tensor in tensors:
        names.append(f"{name} {tensor.dtype} {list(tensor.shape)}")
        sums.append(_sum(tensor.detach()))
    found = xxhash.xxh3_128("\n".join(names).encode())
    if sums:
        found.update(torch.stack(sums).cpu().numpy().tobytes())
    return found.hexdigest()


def _sum(tensor: Tensor) -> Tensor:
    """Return the sum of the bits as integers, each times an odd factor by its place, modulo 2^64."""
    flat = tensor.contiguous().view(-1).view(INTEGERS[tensor.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for number, piece in enumerate(flat.split(PIECE)):
        places = torch.arange(number * PIECE, number * PIECE + len(piece), device=tensor.device)
        places.mul_(FACTOR)
        places ^= places >> 29
        total += places.bitwise_or_(1).mul_(piece).sum()
    return total
