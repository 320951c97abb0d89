"""The contract between a policy and its training: which parameters training changes, which tensors the engines receive, and the
initial model. Implementations: full training, training with a frozen vision tower, and LoRA (lora.py)."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from uec.algorithm.entropy import TokenScores
from uec.config.schema import LoraConfig, ModelConfig
from uec.errors import BadInput
from uec.models.deepspeed_engine import Named, gathered
from uec.models.lora import LoraPolicy
from uec.models.model_config import meta_model
from uec.models.policy import Policy
from uec.models.pretrained import load_config
from uec.models.vision import vision_tower

Forward = Callable[..., TokenScores]
"""Takes what `Policy.forward` takes."""


class PolicyModel(Protocol):
    """A policy as the learner trains it. Under ZeRO-3 all ranks must iterate over `exported` and `complete` together."""

    policy: Policy
    """The module that DeepSpeed's engine wraps. Only parameters of `trainable` require a gradient."""

    def trainable(self) -> Iterator[Named]:
        """Return the parameters that training changes: those of the optimizer and of the saved training state."""
        ...

    def exported(self) -> Iterator[tuple[str, Tensor]]:
        """Return the whole tensors that travel to the engines. Each is valid only until the next one is requested."""
        ...

    def complete(self) -> Iterator[tuple[str, Tensor]]:
        """Return the whole tensors of a checkpoint that plain transformers loads, with LoRA peft.

        Each is valid only until the next one is requested.
        """
        ...

    def reference(self) -> Forward | None:
        """Return the forward function of the frozen initial model, or None where no loss term uses it (loss.kl_coef=0)."""
        ...


class FullPolicy:
    """A policy of which training changes every parameter that requires a gradient."""

    def __init__(self, policy: Policy, load_reference: Callable[[], Forward] | None = None) -> None:
        """`load_reference`: loads the initial model a second time; None: no reference."""
        self.policy = policy
        self._load_reference = load_reference

    def trainable(self) -> Iterator[Named]:
        return ((name, parameter) for name, parameter in self.policy.hf.named_parameters() if parameter.requires_grad)

    def exported(self) -> Iterator[tuple[str, Tensor]]:
        return gathered(self.trainable())

    def complete(self) -> Iterator[tuple[str, Tensor]]:
        return gathered(self.policy.hf.named_parameters())

    def reference(self) -> Forward | None:
        return None if self._load_reference is None else self._load_reference()


class FrozenTowerPolicy(FullPolicy):
    """A policy whose vision tower keeps its initial weights: the tower is neither trained nor exported (model.freeze_vision_tower)."""

    def __init__(self, policy: Policy, load_reference: Callable[[], Forward] | None = None) -> None:
        super().__init__(policy, load_reference)
        tower = vision_tower(policy.hf)
        assert tower is not None, "make_policy_model refuses a model without a vision tower"
        tower.requires_grad_(False)


def make_policy_model(
    policy: Policy,
    model: ModelConfig,
    load_reference: Callable[[], Forward] | None = None,
    lora: LoraConfig | None = None,
    merged: bool = True,
    seed: int = 0,
) -> PolicyModel:
    """Choose the implementation by `model` and `lora`. `merged`: see LoraPolicy. Raises BadInput where the tower to freeze is missing."""
    if model.freeze_vision_tower and vision_tower(policy.hf) is None:
        raise BadInput(f"model.freeze_vision_tower=true, and {model.path} ({type(policy.hf).__name__}) has no vision tower")
    if lora is not None and lora.enabled:
        return LoraPolicy(policy, lora, merged, model.freeze_vision_tower, seed)
    return (FrozenTowerPolicy if model.freeze_vision_tower else FullPolicy)(policy, load_reference)


def meta_policy_model(model: ModelConfig, lora: LoraConfig | None = None, merged: bool = True) -> PolicyModel:
    """Return the policy model of a config.json on PyTorch's device `meta`: names and shapes without weights. Raises BadInput."""
    config = load_config(model)
    hf = meta_model(config, model)
    with torch.device("meta"):
        return make_policy_model(Policy(hf, 1, config.get_text_config().vocab_size), model, lora=lora, merged=merged)
