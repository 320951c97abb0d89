"""An adapter in vLLM's workers: received by the weight transport of the run, kept in memory, put in place of the version before.

Written against vLLM 0.32, `lora/model_manager.py` and `lora/lora_model.py`. There is one adapter and one slot, which every request
names: on CPU, batches that mix requests with and without an adapter are computed wrongly.
"""

import hashlib
from typing import Any

import torch

NUMBER = 1
NAME = "policy"
IN_MEMORY = "(sent by the learners, in memory)"  # vLLM requires a path, and opens it only if the adapter is missing
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM allows as max_lora_rank


def adapter_arguments(rank: int) -> dict[str, Any]:
    """Return vLLM's engine arguments for an adapter of this rank."""
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": next(allowed for allowed in RANKS if allowed >= rank)}


def adapter_request() -> Any:
    """Return what a request names to be computed with the adapter: vLLM's LoRARequest."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name=NAME, lora_int_id=NUMBER, lora_path=IN_MEMORY)


class Collector(torch.nn.Module):
    """The target of a weight transfer in place of the model: keeps copies, because a transport uses its buffers again."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[str, torch.Tensor] = {}

    def load_weights(self, tensors: Any) -> None:
        self.tensors.update((name, tensor.clone()) for name, tensor in tensors)


def install(lora_manager: Any, tensors: dict[str, torch.Tensor], rank: int, scale: float) -> None:
    """Put an adapter, with peft's names, in place of the one before. Nothing is running, or the engine is paused.

    vLLM folds the scale into B in place. Raises RuntimeError for a layer that the engine's model has no place for: vLLM would drop it.
    """
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    manager = lora_manager._adapter_manager
    mapper = getattr(manager.model, "hf_to_vllm_mapper", None)
    adapter = LoRAModel.from_lora_tensors(
        lora_model_id=NUMBER,
        tensors=tensors,
        peft_helper=PEFTHelper(r=rank, lora_alpha=scale * rank, target_modules=[]),  # type: ignore[arg-type]  # not only whole numbers
        device="cpu",
        dtype=lora_manager.lora_config.lora_dtype,
        model_vocab_size=lora_manager.vocab_size,
        weights_mapper=None if mapper is None else mapper.get_rename_mapper(),
    )
    if missing := sorted(set(adapter.loras) - _places(manager)):
        raise RuntimeError(
            f"lora.target_modules: vLLM's model has no place for the adapters of {len(missing)} of {len(adapter.loras)} layers, "
            f"for example {missing[0]}; set lora.exchange=merged, or remove them"
        )
    manager.remove_adapter(NUMBER)
    manager.add_adapter(adapter)
    manager.activate_adapter(NUMBER)


def checksum(lora_manager: Any) -> str:
    """Return a digest of the adapter in the slot that requests use, as the kernels read it."""
    digest = hashlib.sha256()
    for name, module in sorted(lora_manager._adapter_manager.modules.items()):
        for stacked in (*_tensors(module, "lora_a_stacked"), *_tensors(module, "lora_b_stacked")):
            digest.update(name.encode())
            digest.update(stacked.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _places(manager: Any) -> set[str]:
    """Return the names of the layers that can have an adapter, fused ones by their parts."""
    known = set(manager.modules)
    for name in manager.modules:
        parent, _, last = name.rpartition(".")
        known |= {f"{parent}.{part}" for part in manager.packed_modules_mapping.get(last, ())}
    return known


def _tensors(module: Any, name: str) -> tuple[torch.Tensor, ...]:
    found = getattr(module, name, ())
    return (found,) if isinstance(found, torch.Tensor) else tuple(found)
