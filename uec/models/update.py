"""One policy update on one rank: forward, loss, backward, optimizer step."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from uec.algorithm.entropy import TokenScores, covariance_sums
from uec.algorithm.losses.objective import StepSize, objective
from uec.algorithm.losses.policy import MARKING, PolicyLoss, mark, token_covariance
from uec.algorithm.losses.terms import behaviour_weights
from uec.algorithm.losses.token_batch import TokenBatch
from uec.config.schema import Config, LearnerConfig
from uec.models.metric_sums import COVARIANCE, MetricSums, entropy_sums
from uec.models.microbatch import MicroBatch, behaviour_and_advantages, collate
from uec.models.rows import Layout
from uec.types import ImageFeatures, Logprobs, Trajectory, UpdatePlan

STALE_CAP = 2.0
"""Cap of the importance weights for rollouts from earlier weights (TIS, Yao et al. 2025)."""


@dataclass(frozen=True, slots=True)
class OldPolicy:
    """The policy's view of a micro-batch's tokens before the first optimizer step, without gradient."""

    logprobs_N: Tensor
    weights_N: Tensor | None  # importance weights; None: all 1


@dataclass(frozen=True, slots=True)
class PolicyUpdate:
    """The policy update of one rank, with what it needs in every step."""

    engine: Any  # DeepSpeed's engine around a uec.models.policy.Policy
    reference: Callable[..., TokenScores] | None  # forward function of the frozen initial model; None where kl_coef = 0
    cfg: Config
    policy_loss: PolicyLoss
    layout: Layout

    @property
    def mismatch_cap(self) -> float | None:
        """Return C of the engine correction: loss.mismatch_cap, or the cap of TIS where rollouts may be from earlier weights."""
        return self.cfg.loss.mismatch_cap or (STALE_CAP if self.cfg.train.max_staleness else None)

    @property
    def device(self) -> torch.device:
        return self.layout.device

    def run(
        self, plan: UpdatePlan, trajectories: list[Trajectory], images: dict[int, ImageFeatures], done: int, version: int | None
    ) -> tuple[dict[str, float], dict[int, Logprobs]]:
        """Run one rank's share of an update. All ranks must call this with their plans, because they wait for each other.

        Args: the plan with a trajectory for each of its samples; the features of their prompts' images, by prompt; `done`, the optimizer
        steps taken so far; the version of the weights that engine and policy share, or None where the engine's log-probabilities
        cannot be compared.
        Returns: metrics over all ranks, and the old log-probabilities of the samples to be admitted to the replay store.
        An optimizer step whose loss or gradient norm is not finite changes nothing on any rank, and `learner/skipped_steps` counts it.
        A plan without steps does nothing.
        """
        if not plan.steps:
            return {}, {}

        def collated(k: int) -> Iterator[MicroBatch]:
            """Make the tensors of a step's micro-batches one by one, because those of all would fill a device's memory."""
            return (collate(rows, trajectories, plan, self.layout, images) for rows in plan.steps[k])

        metric_sums = MetricSums(self.device)
        old = self._old_values(collated, plan, trajectories, metric_sums, version)
        norms: list[float] = []
        admitted: dict[int, Logprobs] = {}
        for k in range(len(plan.steps)):
            for group in self.engine.optimizer.param_groups:
                group["lr"] = group["lr_scale"] * learning_rate(self.cfg.learner, done + len(norms))
            size = StepSize(plan.tokens[k], plan.counts[k], self.cfg.rollout.max_tokens)
            marks = self._mark(plan, k, trajectories, done + k)
            batches = collated(k)
            batch = next(batches)
            total = torch.zeros((), device=self.device)  # this rank's loss so far
            for j, rows in enumerate(plan.steps[k]):
                last = j == len(plan.steps[k]) - 1
                with metric_sums.clock("forward_s"):
                    scores = self._forward(batch, metric_sums, version if old is None else None)
                    before = self._old(batch, scores) if old is None else old[k][j]
                    loss = self._loss(batch, scores, before, marks[j], size, metric_sums)
                    admitted |= _admitted(plan, rows, batch, before.logprobs_N)
                with metric_sums.clock("backward_s"):
                    total += loss.detach()
                    self._backward(loss, last, total)
                    batch = next(batches, batch)  # made while the device computes
                with metric_sums.clock("optimizer_s"):
                    norm = self._step(last)
                    if norm is not None and math.isfinite(norm):
                        norms.append(norm)
        metrics = metric_sums.over_ranks().metrics(len(plan.steps))
        if norms:
            metrics["policy/grad_norm"] = math.fsum(norms) / len(norms)
        metrics["policy/lr"] = learning_rate(self.cfg.learner, done + max(1, len(norms)) - 1)
        metrics["learner/micro_batches"] = float(sum(map(len, plan.steps)))
        metrics["learner/optimizer_steps"] = float(len(norms))
        metrics["learner/skipped_steps"] = float(len(plan.steps) - len(norms))
        return metrics, admitted

    def _forward(self, batch: MicroBatch, metric_sums: MetricSums, version: int | None) -> TokenScores:
        """Run a forward pass, and compare its log-probabilities with the engine's if `version` is given."""
        tempered = version is not None or self.mismatch_cap is not None or self.cfg.exploration.correction == "tempered"
        scores = self.engine(batch.rows, batch.temperatures_N if tempered else None)
        if version is not None:
            ours_N, theirs_N = (values_N[batch.version_N == version] for values_N in (scores.tempered_N.detach(), batch.behaviour_N))
            if len(ours_N):
                gap_N = (ours_N - theirs_N).abs()
                metric_sums.add(gap=gap_N.sum(), compared=float(len(gap_N)))
                metric_sums.raise_to("gap_max", gap_N.max())
        return scores

    def _policy_logprobs(self, scores: TokenScores) -> Tensor:
        """Return the log pi of the loss: at T = 1, or with `exploration.correction: tempered` at the sampling temperature."""
        return scores.tempered_N if self.cfg.exploration.correction == "tempered" else scores.logprobs_N

    def _old(self, batch: MicroBatch, scores: TokenScores | None) -> OldPolicy:
        """Return old log-probabilities and importance weights: the values stored with replayed tokens, or else those of `scores`.

        `scores`: of a forward pass before the first optimizer step; None where all values are stored.
        """
        logprobs_N = batch.behaviour_N if scores is None else self._policy_logprobs(scores).detach()
        tempered_N = batch.behaviour_N if scores is None else scores.tempered_N.detach()
        stored_N = torch.zeros_like(logprobs_N, dtype=torch.bool)
        if batch.stored_N is not None:
            stored_N = ~batch.stored_N.isnan()
            logprobs_N = torch.where(stored_N, batch.stored_N, logprobs_N)
        hot_N = torch.zeros_like(stored_N) if batch.temperatures_N is None else batch.temperatures_N != 1
        weights_N = behaviour_weights(
            logprobs_N, tempered_N, batch.behaviour_N, hot_N, stored_N, correction=self.cfg.exploration.correction,
            mismatch_cap=self.mismatch_cap, is_cap=self.cfg.loss.is_cap,
        )  # fmt: skip
        return OldPolicy(logprobs_N, weights_N)

    def _old_values(
        self,
        collated: Callable[[int], Iterator[MicroBatch]],
        plan: UpdatePlan,
        trajectories: list[Trajectory],
        metric_sums: MetricSums,
        version: int | None,
    ) -> list[list[OldPolicy]] | None:
        """Return the old policy's values for all micro-batches, before the first step changes the weights.

        None with a single optimizer step, whose forward pass gives the same values at no cost.
        """
        if len(plan.steps) == 1:
            return None
        missing = torch.tensor(any(trajectory.old_logprobs is None for trajectory in trajectories), dtype=torch.int32, device=self.device)
        dist.all_reduce(missing, op=dist.ReduceOp.MAX)  # either all ranks run the forward pass, or none
        if not missing:
            return [[self._old(batch, None) for batch in collated(k)] for k in range(len(plan.steps))]
        with torch.no_grad(), metric_sums.clock("forward_s"):
            return [[self._old(batch, self._forward(batch, metric_sums, version)) for batch in collated(k)] for k in range(len(plan.steps))]

    def _mark(self, plan: UpdatePlan, k: int, trajectories: list[Trajectory], number: int) -> list[Tensor | None]:
        """Return the tokens of step k that Clip-Cov or KL-Cov restrains, chosen over the whole optimizer step and equal on all ranks.

        The choice uses the engine's log-probabilities, which exist before the forward pass. With those of the current policy it would
        depend on how the batch is split.
        """
        if self.cfg.loss.policy not in MARKING:
            return [None] * len(plan.steps[k])
        values = [behaviour_and_advantages(rows, trajectories, plan) for rows in plan.steps[k]]
        mine_N = torch.from_numpy(np.stack([np.concatenate(column) for column in zip(*values, strict=True)], 1))
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, mine_N)
        logprobs_M, advantages_M = torch.cat(parts).unbind(1)
        generator = torch.Generator().manual_seed(self.cfg.run.seed + number)
        marked_M = mark(token_covariance(logprobs_M, advantages_M), self.cfg.loss, generator)
        begin = sum(map(len, parts[: dist.get_rank()]))
        counts = [len(behaviour_N) for behaviour_N, _ in values]
        return list(marked_M[begin : begin + len(mine_N)].to(self.device).split(counts))

    def _loss(
        self, batch: MicroBatch, scores: TokenScores, old: OldPolicy, marked_N: Tensor | None, size: StepSize, metric_sums: MetricSums
    ) -> Tensor:
        """Return this micro-batch's share of the optimizer step's loss."""
        rows = batch.rows
        reference_N = None
        if self.reference is not None:
            with torch.no_grad():
                tempered = self.cfg.exploration.correction == "tempered"
                reference_N = self._policy_logprobs(self.reference(rows, batch.temperatures_N if tempered else None))
        tokens = TokenBatch(
            logprobs_N=self._policy_logprobs(scores),
            old_N=old.logprobs_N,
            advantages_N=batch.advantages_N,
            row_N=rows.response_N(),
            rows=max(1, len(rows.counts)),
            entropies_N=scores.entropies_N,
            reference_N=reference_N,
            behaviour_weights_N=old.weights_N,
            marked_N=marked_N,
        )
        if old.weights_N is not None and self.mismatch_cap is not None:
            metric_sums.add(behaviour_clip_frac=(old.weights_N >= self.mismatch_cap).sum())
        loss, sums = objective(tokens, self.policy_loss, self.cfg.loss, size)
        metric_sums.add(**sums)
        metric_sums.add(**dict(zip(COVARIANCE, covariance_sums(scores.logprobs_N, batch.advantages_N), strict=True)))
        metric_sums.add(**entropy_sums(scores.entropies_N, batch.exploration_N, batch.right_N))
        metric_sums.add(rows=len(rows.counts), response_tokens=len(rows.row_N), tokens=rows.tokens, padded_tokens=rows.ids_BL.numel())
        return loss

    def _backward(self, loss: Tensor, last: bool, total: Tensor) -> None:
        # Before the backward pass, because ZeRO treats gradients as complete only in the last one.
        self.engine.set_gradient_accumulation_boundary(last)
        # DeepSpeed averages over ranks, but these are shares of one mean and must be summed.
        # A loss that is not finite can have finite gradients: the factor makes them NaN, so that the norm over all ranks is NaN, too.
        self.engine.backward(loss * torch.where(total.isfinite(), float(dist.get_world_size()), math.nan))

    def _step(self, last: bool) -> float | None:
        """Run the optimizer step after the last micro-batch; returns the gradient norm over all ranks, and None before the last.

        With a norm that is not finite, weights and moments stay as they are: DeepSpeed's ZeRO optimizers leave the step out by
        themselves, and without ZeRO it is left out here.
        """
        norm = None
        if last and self.cfg.learner.zero_stage == 0:  # where DeepSpeed clips but does not report the norm
            gradients = [parameter.grad for parameter in self.engine.parameters() if parameter.grad is not None]
            norm = float(torch.nn.utils.get_total_norm(gradients))
            if not math.isfinite(norm):
                for parameter in self.engine.parameters():
                    parameter.grad = None
                return norm
        self.engine.step()
        if last and self.cfg.learner.zero_stage > 0:
            norm = float(self.engine.get_global_grad_norm())
        return norm


def learning_rate(settings: LearnerConfig, done: int) -> float:
    """Return the learning rate of the optimizer step after `done` others: linear warm-up, then constant."""
    return settings.lr * min(1.0, (done + 1) / max(1, settings.warmup_steps))


def _admitted(plan: UpdatePlan, rows: list[list[int]], batch: MicroBatch, old_N: Tensor) -> dict[int, Logprobs]:
    """Return the old log-probabilities of the samples that enter the replay store."""
    responses = [i for row in rows for i in row]
    if plan.admitted.isdisjoint(responses):
        return {}
    return {i: part for i, part in zip(responses, batch.rows.split(old_N), strict=True) if i in plan.admitted}


def mean_entropy(engine: Any, plan: UpdatePlan, trajectories: list[Trajectory], layout: Layout, images: dict[int, ImageFeatures]) -> float:
    """Return the policy's mean true entropy over the response tokens of all ranks' plans, in nats; 0 without tokens."""
    total = torch.zeros(2, dtype=torch.float64, device=layout.device)
    for entropies_T in response_entropies(engine, plan, trajectories, layout, images).values():
        total += torch.tensor([float(entropies_T.sum(dtype=np.float64)), len(entropies_T)], dtype=torch.float64, device=layout.device)
    dist.all_reduce(total)
    return float(total[0] / total[1].clamp(min=1))


def response_entropies(
    engine: Any, plan: UpdatePlan, trajectories: list[Trajectory], layout: Layout, images: dict[int, ImageFeatures]
) -> dict[int, Logprobs]:
    """Return the policy's true entropies [T] at the tokens of each of this rank's samples, in nats."""
    found: dict[int, Logprobs] = {}
    with torch.no_grad():
        for batch in (batch for step in plan.steps for batch in step):
            rows = layout.rows([[trajectories[i] for i in row] for row in batch], images)
            parts = rows.split(engine(rows).entropies_N)
            found |= dict(zip((i for row in batch for i in row), parts, strict=True))
    return found
