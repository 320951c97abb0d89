"""Methods that vLLM's `worker_extension_cls` option adds to its workers."""

import base64
import hashlib
import json
from functools import partial
from typing import Any

import numpy as np
import torch

from actors.engines.vllm import adapter
from uec.models.policy import BANNED


class WorkerExtension:
    """Mixed into vLLM's Worker, whose attributes it uses; called through collective_rpc."""

    device: torch.device
    rank: int
    model_runner: Any
    weight_transfer_engine: Any

    def limit_vocabulary(self, size: int, never: list[int]) -> None:
        """Cut the logits to the tokenizer's `size` tokens, where the embedding is padded beyond it, and rule out the tokens `never`.

        This acts where vLLM computes logits: no such token is sampled or has probability, and `logprobs` agrees with it.
        """
        from vllm.lora.layers import LogitsProcessorWithLoRA
        from vllm.model_executor.layers.logits_processor import LogitsProcessor

        modules = list(self.model_runner.get_model().modules())
        heads = [module for module in modules if isinstance(module, LogitsProcessor)]
        wrapped = {id(module.base_layer): module for module in modules if isinstance(module, LogitsProcessorWithLoRA)}
        if not heads:
            raise RuntimeError("this model has no LogitsProcessor of vLLM's: its vocabulary cannot be cut to the tokenizer's")
        for head in heads:
            head.org_vocab_size = min(head.org_vocab_size, size)
            if never:
                # The module that LoRA wraps around it calls its function, not the module with its hooks.
                wrapped.get(id(head), head).register_forward_hook(partial(_rule_out, torch.tensor(never, device=self.device)))

    def weight_checksum(self) -> str:
        """Return a digest of this worker's weights; "" if vLLM does not hold all of them as parameters. With LoRA, of the adapter.

        vLLM's kernels on CPU compute with a packed copy of a matrix, and vLLM drops the matrix itself where the kernel allows it.
        """
        if getattr(self.model_runner, "lora_manager", None) is not None:
            return adapter.checksum(self.model_runner.lora_manager)
        if any(parameter.numel() == 0 for parameter in self.model_runner.get_model().parameters()):
            return ""
        digests: dict[str, str] = self.compute_weight_checksums()  # type: ignore[attr-defined]  # of Worker
        return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()

    def start_adapter_update(self) -> None:
        """Let the next `update_weights` bring an adapter. The model keeps its weights."""
        self._collector = adapter.Collector()
        self.weight_transfer_engine.set_weight_update_target(self._collector, None)
        self._weight_update_active = True  # which Worker.update_weights asks for

    def finish_adapter_update(self, rank: int, scale: float) -> None:
        """Put the adapter that `update_weights` brought in place of the one before.

        Not by Worker.finish_weight_update: it would process the model's weights anew and remove all adapters.
        """
        self._weight_update_active = False
        self.weight_transfer_engine.reset_weight_update_target()
        collected, self._collector = self._collector, adapter.Collector()
        adapter.install(self.model_runner.lora_manager, collected.tensors, rank, scale)

    def random_state(self) -> str:
        """Return the state of the generators that sample, as JSON text.

        vLLM's runner V2 draws a seed for each request from numpy's global generator (vllm/v1/worker/gpu/sample/states.py:57), the older
        runner samples with torch's.
        """
        state = torch.get_rng_state() if self.device.type == "cpu" else torch.cuda.get_rng_state(self.device)
        kind, keys, *rest = np.random.get_state(legacy=True)
        drawn = [kind, base64.b64encode(keys.tobytes()).decode(), *rest]
        return json.dumps({"torch": base64.b64encode(state.numpy().tobytes()).decode(), "numpy": drawn})

    def load_random_state(self, states: list[str]) -> None:
        """Restore what `random_state` returned; `states` holds every worker's.

        A state without numpy's part is that of an earlier version of this code, torch's generator in base64: numpy's stays as it is.
        """
        text = states[self.rank]
        found = json.loads(text) if text.startswith("{") else {"torch": text}
        state = torch.frombuffer(bytearray(base64.b64decode(found["torch"])), dtype=torch.uint8)
        if self.device.type == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, self.device)
        if "numpy" in found:
            kind, keys, *rest = found["numpy"]
            np.random.set_state((kind, np.frombuffer(base64.b64decode(keys), np.uint32), *rest))


def _rule_out(never: torch.Tensor, _module: Any, _arguments: Any, logits_NV: torch.Tensor | None) -> torch.Tensor | None:
    """Give these tokens no probability, as a forward hook. Logits are None on tensor-parallel ranks that sample nothing.

    `never` is on the device of the logits: a list would be copied there in each decoding step, which waits for the device.
    """
    if logits_NV is not None:
        logits_NV.index_fill_(1, never, max(BANNED, torch.finfo(logits_NV.dtype).min))
    return logits_NV
