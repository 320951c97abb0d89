"""The project's learner with what the GPU checks measure in its process: memory, seconds of `publish`, and attention against plain rows."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from actors.workers.learner import LearnerActor
from uec.system.gpu_devices import used_gpu_bytes
from uec.system.platform import detect
from uec.types import Trajectory, WeightUpdate

if TYPE_CHECKING:
    from torch import Tensor

    from uec.models.policy import Policy
    from uec.models.rows import Layout, Response


class MeasuredLearner(LearnerActor):
    """A learner that says how long the last `publish` took, and how much of its GPU all processes use."""

    seconds = 0.0

    def publish(self, version: int, *more: Any) -> WeightUpdate | None:
        begin = time.perf_counter()
        update = super().publish(version, *more)
        self.seconds = time.perf_counter() - begin
        return update

    def publish_seconds(self) -> float:
        """Return the seconds of the last `publish`."""
        return self.seconds

    def device_bytes(self) -> int:
        """Return the bytes that all processes use on this rank's GPU."""
        return used_gpu_bytes()


class AttentionLearner(MeasuredLearner):
    """A learner that compares the attention of its packed rows with padded rows."""

    def compare(self, trajectories: list[Trajectory]) -> dict[str, float]:
        """Return `compare_rows` of the policy, with the same weights in float32 as reference."""
        reference = self._load_policy(replace(detect(self.cfg), dtype="float32")).to(self.layout.device)
        if self.cfg.learner.gradient_checkpointing:
            reference.train()  # transformers checkpoints only in this mode; there is no dropout
            reference.hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return compare_rows(self.policy, reference, self.layout, trajectories)


def compare_rows(policy: "Policy", reference: "Policy", layout: "Layout", responses: Sequence["Response"]) -> dict[str, float]:
    """Return the loss of packed and of padded rows, and the distances between their gradients.

    Packed rows use the layout's attention; padded rows the plain causal forward pass. In half precision the two must differ, so the
    distance of each from padded rows of `reference`, in float32, says which differences are rounding. Distances are relative to the
    gradient of `reference`.
    """
    padded = replace(layout, packed=False)
    exact_loss, exact = _loss_and_gradient(reference, padded, responses)
    plain_loss, plain = _loss_and_gradient(policy, padded, responses)
    packed_loss, packed = _loss_and_gradient(policy, layout, responses)
    size = _norm(exact)
    return {
        "loss": packed_loss,
        "loss_padded": plain_loss,
        "loss_float32": exact_loss,
        "gradient_gap": _distance(packed, plain) / size,
        "gradient_error": _distance(packed, exact) / size,
        "gradient_error_padded": _distance(plain, exact) / size,
    }


def _loss_and_gradient(policy: "Policy", layout: "Layout", responses: Sequence["Response"]) -> tuple[float, "list[Tensor]"]:
    """Return the mean of -logp over all response tokens, and its gradient in float32 on the CPU.

    `torch.autograd.grad` does not run DeepSpeed's hooks, so an engine around the policy does not notice.
    """
    import torch

    by_prompt: dict[int, list[Any]] = {}
    for response in responses:
        by_prompt.setdefault(response.prompt, []).append(response)
    rows = list(by_prompt.values()) if layout.packed else [[response] for response in responses]
    loss = -policy(layout.rows(rows, {})).logprobs_N.float().mean()
    parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, parameters)
    return float(loss.detach()), [gradient.float().cpu() for gradient in gradients]


def _distance(ours: "list[Tensor]", theirs: "list[Tensor]") -> float:
    return _norm([a - b for a, b in zip(ours, theirs, strict=True)])


def _norm(gradient: "list[Tensor]") -> float:
    return float(sum(part.double().square().sum() for part in gradient)) ** 0.5
