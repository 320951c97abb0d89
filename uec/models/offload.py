"""Move the states of a training engine to host memory while an engine on the same GPU samples, and back (learner.offload).

DeepSpeed's `offload_states` does this under ZeRO 1 and 2. Under ZeRO-3 it accepts only DeepSpeed's FusedAdam and maps weights wrongly
where some parameters are frozen (stage3.py:3869, :3900), and without ZeRO it does not exist; there this module moves the tensors itself.
DeepSpeed's `reload_states` brings back all of ZeRO 1 to 3.
"""

import gc
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def offload(engine: Any, weights: bool) -> None:
    """Move optimizer states, float32 weights and gradients to the host, and with `weights` the model's weights, too."""
    from deepspeed.accelerator import get_accelerator
    from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum as State

    pin = get_accelerator().current_device_name() != "cpu"
    stage = engine.zero_optimization_stage()
    if stage == 0:
        for tensor in _without_zero(engine, weights):
            tensor.data = _on_host(tensor, pin)
    elif stage < 3:
        states = [State.optim_states, State.hp_params, State.lp_grads, *([State.lp_params] if weights else [])]
        engine.offload_states(include=states, pin_memory=pin)
    else:
        engine.offload_states(include=[State.lp_grads, State.contiguous_grad_buffer], pin_memory=pin)
        _offload_zero3(engine, weights, pin)
    release_cached()


def release_cached() -> None:
    """Give the memory that torch's allocator keeps for later back to the device, so that another process can have it."""
    from deepspeed.accelerator import get_accelerator

    gc.collect()
    get_accelerator().empty_cache()


def reload(engine: Any, weights: bool) -> None:
    """Bring back what `offload` moved, called with the same `weights`."""
    from deepspeed.accelerator import get_accelerator

    if engine.zero_optimization_stage() > 0:
        engine.reload_states()
        return
    for tensor in _without_zero(engine, weights):
        tensor.data = tensor.data.to(get_accelerator().current_device_name())


def _offload_zero3(engine: Any, weights: bool, pin: bool) -> None:
    """Move this rank's partitions, and mark them as DeepSpeed does, so that `reload_states` finds them."""
    from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum as State
    from deepspeed.runtime.zero.offload_states import offload_adam_states
    from deepspeed.runtime.zero.utils import get_mapping_to_flat_buffer

    zero = engine.optimizer
    if not engine.zero_use_cpu_optimizer() and State.hp_params not in zero.offloaded_states:
        for master in zero.fp32_partitioned_groups_flat:
            master.data = _on_host(master, pin)
        offload_adam_states(zero.optimizer, "cpu", pin_memory=pin)
        zero.offloaded_states |= {State.hp_params, State.optim_states}
    if weights and State.lp_params not in zero.offloaded_states:
        zero.lp_param_buffer.data = _on_host(zero.lp_param_buffer, pin)
        zero.fp16_partitioned_groups_flat.clear()  # like the partitions, they are views of the buffer and keep its old memory
        for partition, begin, size in get_mapping_to_flat_buffer(zero._get_parameter_partitions()):
            partition.data = zero.lp_param_buffer.narrow(0, begin, size)
        zero.offloaded_states.add(State.lp_params)


def _without_zero(engine: Any, weights: bool) -> Iterator[Tensor]:
    for state in engine.optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))
    if weights:
        yield from engine.module.parameters()
        yield from engine.module.buffers()


def _on_host(tensor: Tensor, pin: bool) -> Tensor:
    """Return a copy in host memory, page-locked for a fast way back."""
    return torch.empty_like(tensor, device="cpu", pin_memory=pin).copy_(tensor.detach())
