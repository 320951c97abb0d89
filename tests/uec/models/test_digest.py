"""The learner's digest of what it publishes."""

import torch

from uec.models import digest as module
from uec.models.digest import digest


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    made = {str(dtype): torch.randn(5, 7).to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return {**made, "scalar": torch.tensor(2.5), "view": torch.randn(3, 4).t()}


def test_every_single_bit_counts_and_so_do_places_names_and_shapes():
    first = digest(tensors().items())
    found = {first}
    for name in tensors():
        for place in range(tensors()[name].numel()):
            for bit in (0, 9, 15):
                changed = tensors()
                changed[name] = changed[name].clone(memory_format=torch.contiguous_format)
                integers = changed[name].view(torch.int16 if changed[name].element_size() == 2 else torch.int32).view(-1)
                integers[place] ^= torch.tensor(1 << bit).to(integers.dtype)
                found.add(digest(changed.items()))
    flips = 3 * sum(tensor.numel() for tensor in tensors().values())
    assert len(found) == 1 + flips
    swapped = tensors()
    swapped["view"] = swapped["view"].flip(0)
    renamed = {name.replace("view", "new"): tensor for name, tensor in tensors().items()}
    reshaped = {**tensors(), "view": tensors()["view"].contiguous().view(2, 6)}
    assert len({first, *(digest(one.items()) for one in (swapped, renamed, reshaped))}) == 4


def test_equal_tensors_have_equal_digests_in_pieces_of_any_size(monkeypatch):
    first = digest(tensors().items())
    monkeypatch.setattr(module, "PIECE", 4)
    assert digest((name, tensor.clone()) for name, tensor in tensors().items()) == first
