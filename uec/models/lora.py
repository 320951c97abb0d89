"""LoRA by peft: low-rank adapters on linear layers of a frozen model, as an implementation of the PolicyModel contract.

Each adapted layer computes W x + s B A x with A [r, I], B [O, r] and the scale s (Hu et al. 2021). Only A and B are trained. The
reference is the same policy with its adapters off, so that it costs no second model.
"""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from uec.algorithm.entropy import TokenScores
from uec.config.schema import LoraConfig
from uec.errors import BadInput
from uec.models.deepspeed_engine import Named, gathered
from uec.models.policy import Policy
from uec.models.vision import vision_tower

PREFIX = "base_model.model."
"""What peft puts before each name in an adapter's file."""

SHOWN = 8


class LoraPolicy:
    """A policy of which training changes adapters only."""

    def __init__(self, policy: Policy, lora: LoraConfig, merged: bool, frozen_tower: bool = False, seed: int = 0) -> None:
        """`merged`: engines receive whole weights with the adapters added, except of a frozen tower; else the adapters alone.

        Raises BadInput for targets that the model does not have.
        """
        self.policy = policy
        self.merged = merged
        self.scale = lora.scale()
        targets = target_names(policy.hf, lora, towers=merged and not frozen_tower)
        self._tower = _prefix_of(policy.hf, vision_tower(policy.hf)) if frozen_tower else None
        self.config = peft_config(lora, targets)
        policy.hf.requires_grad_(False)
        _inject(policy.hf, self.config, seed)
        self._layers: list[Any] = [module for module in policy.modules() if hasattr(module, "lora_A")]

    def trainable(self) -> Iterator[Named]:
        return ((name, parameter) for name, parameter in self.policy.hf.named_parameters() if parameter.requires_grad)

    def exported(self) -> Iterator[tuple[str, Tensor]]:
        return self._merged() if self.merged else self.complete()

    def complete(self) -> Iterator[tuple[str, Tensor]]:
        """Return the adapter's tensors under the names of peft's files."""
        return ((adapter_name(name), tensor) for name, tensor in gathered(self.trainable()))

    def reference(self) -> Any:
        return self._without_adapters

    def _merged(self) -> Iterator[tuple[str, Tensor]]:
        adapters = {name: tensor.clone() for name, tensor in self.complete()}
        base = ((name, parameter) for name, parameter in self.policy.hf.named_parameters() if ".lora_" not in name)
        for name, tensor in gathered(base):
            plain = name.replace(".base_layer.", ".")
            if self._tower is not None and plain.startswith(self._tower):
                continue
            module, _, kind = plain.rpartition(".")
            down = adapters.get(f"{PREFIX}{module}.lora_A.weight") if kind == "weight" else None
            if down is not None:
                up = adapters[f"{PREFIX}{module}.lora_B.weight"]
                tensor = (tensor.float() + self.scale * (up.float() @ down.float())).to(tensor.dtype)
            yield plain, tensor

    def _without_adapters(self, *arguments: Any) -> TokenScores:
        """Compute the forward pass of the initial model.

        peft's public switch also changes which parameters require a gradient, which must not happen between forward and backward pass.
        """
        for layer in self._layers:
            layer._disable_adapters = True
        try:
            scores: TokenScores = self.policy(*arguments)
        finally:
            for layer in self._layers:
                layer._disable_adapters = False
        return scores


def peft_config(lora: LoraConfig, targets: list[str], base: str | None = None) -> Any:
    """Return peft's config of an adapter on the layers `targets`, given by full names."""
    from peft import LoraConfig as PeftConfig

    return PeftConfig(
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,  # type: ignore[arg-type]  # any number works
        use_rslora=lora.rslora,
        lora_dropout=0.0,
        target_modules=targets,
        init_lora_weights="gaussian" if lora.init == "gaussian" else True,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )


def adapter_name(name: str) -> str:
    """Return the name in peft's files of a parameter such as model.layers.0.mlp.up_proj.lora_A.default.weight."""
    return PREFIX + name.replace(".default.", ".")


def target_names(hf: Any, lora: LoraConfig, towers: bool) -> list[str]:
    """Return the full names of the linear layers that `lora` names, in the model's order. `towers`: allow those of a vision tower.

    Raises BadInput if one of `lora.target_modules` names nothing, or a layer that cannot have an adapter.
    """
    tower, head = _prefix_of(hf, vision_tower(hf)), hf.get_output_embeddings()
    linear = [name for name, module in hf.named_modules() if isinstance(module, nn.Linear) and module is not head]
    text = [name for name in linear if tower is None or not name.startswith(tower)]
    if lora.target_modules == "all-linear":
        found = [name for name in text if _layer(name) is not None]
    else:
        found = []
        for wanted in lora.target_modules:
            among = linear if "." in wanted else text
            matching = [name for name in among if name == wanted or name.endswith(f".{wanted}")]
            if not matching:
                have = sorted({name.rpartition(".")[2] for name in text if _layer(name) is not None})
                raise BadInput(f"lora.target_modules: the model has no linear layer {wanted} to adapt; it has {', '.join(have[:SHOWN])}")
            if not towers and tower is not None and (inside := [name for name in matching if name.startswith(tower)]):
                raise BadInput(
                    f"lora.target_modules: {inside[0]} is in the vision tower, which lora.exchange=adapter and "
                    "model.freeze_vision_tower=true leave alone; set lora.exchange=merged, or remove it"
                )
            found += matching
    if lora.layers:
        numbers = {_layer(name) for name in found}
        if missing := sorted(set(lora.layers) - numbers):
            raise BadInput(f"lora.layers: the model has no layer {missing[0]} with a layer of lora.target_modules; remove it")
        found = [name for name in found if _layer(name) in lora.layers]
    if not found:
        raise BadInput("lora.target_modules names no layer of the model; set lora.target_modules=all-linear")
    return sorted(set(found), key=linear.index)


def _layer(name: str) -> int | None:
    """Return the number of the transformer layer that a module belongs to."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else None


def _prefix_of(hf: nn.Module, part: nn.Module | None) -> str | None:
    if part is None:
        return None
    return next(f"{name}." for name, module in hf.named_modules() if module is part)


def _inject(hf: nn.Module, config: Any, seed: int) -> None:
    """Add the adapters, with equal initial values on each rank, in the model's dtype."""
    from peft import inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, hf)
    for name, parameter in hf.named_parameters():
        parameter.requires_grad_(".lora_" in name)
        if ".lora_" in name:
            parameter.data = parameter.data.to(next(hf.parameters()).dtype)
