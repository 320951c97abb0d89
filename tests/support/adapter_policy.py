"""A third implementation of the PolicyModel contract: low-rank adapters on the query projections of a frozen model."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from uec.models.deepspeed_engine import Named, gathered
from uec.models.policy import Policy
from uec.models.policy_model import Forward


class Adapter(nn.Module):
    def __init__(self, base: Any, rank: int = 2) -> None:
        super().__init__()
        self.base, self.on = base, True
        self.down, self.up = nn.Parameter(torch.full((rank, base.in_features), 0.1)), nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, states: Tensor) -> Tensor:
        return self.base(states) + (states @ self.down.t() @ self.up.t() if self.on else 0)


class AdapterPolicy:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        policy.hf.requires_grad_(False)
        for layer in policy.hf.model.layers:
            layer.self_attn.q_proj = Adapter(layer.self_attn.q_proj).to(policy.hf.dtype)
        self.adapters = [module for module in policy.modules() if isinstance(module, Adapter)]

    def trainable(self) -> Iterator[Named]:
        return ((name, parameter) for name, parameter in self.policy.hf.named_parameters() if parameter.requires_grad)

    def exported(self) -> Iterator[tuple[str, Tensor]]:
        return gathered(self.trainable())

    def complete(self) -> Iterator[tuple[str, Tensor]]:
        adapters = {name: tensor.clone() for name, tensor in self.exported()}
        for name, tensor in gathered(self.policy.hf.named_parameters()):
            prefix, is_base, kind = name.partition("base.")
            if is_base and kind == "weight":
                tensor = tensor + adapters[f"{prefix}up"] @ adapters[f"{prefix}down"]
            if name not in adapters:
                yield prefix + kind, tensor

    def reference(self) -> Forward:
        return self._without_adapters  # the initial model is the policy without its adapters: no second copy

    def _without_adapters(self, *args: Any) -> Any:
        for adapter in self.adapters:
            adapter.on = False
        scores = self.policy(*args)
        for adapter in self.adapters:
            adapter.on = True
        return scores
