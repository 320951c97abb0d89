"""The micro-batches of a policy update, without DeepSpeed."""

import gc
import weakref

import numpy as np
import pytest
import torch
import torch.distributed as dist

import uec.models.update as update
from tests.support.text_learner import ADVANTAGES, plans, rollouts
from uec.algorithm.entropy import TokenScores
from uec.algorithm.losses.policy import load_policy_loss
from uec.config.schema import Config
from uec.models.microbatch import behaviour_and_advantages, collate
from uec.models.rows import Layout
from uec.models.update import PolicyUpdate

LAYOUT = Layout(torch.device("cpu"), packed=True)
ROWS = [row for row in rollouts(12, seed=3)]


@pytest.fixture(scope="module", autouse=True)
def one_process(tmp_path_factory):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path_factory.mktemp('group')}/rank", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Engine(torch.nn.Module):
    """A stand-in for DeepSpeed's engine: one weight, which is every token's log-probability."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(-1.0))
        self.optimizer = torch.optim.SGD([{"params": [self.weight], "lr_scale": 1.0}], lr=0.0)
        self.losses = []

    def forward(self, rows, temperatures_N=None):
        logprobs_N = self.weight.expand(len(rows.row_N))
        return TokenScores(logprobs_N, torch.ones(len(rows.row_N)), logprobs_N)

    def set_gradient_accumulation_boundary(self, last):
        self.last = last

    def backward(self, loss):
        self.losses.append(float(loss.detach()))
        loss.backward()

    def step(self):
        if self.last:
            self.optimizer.step()


@pytest.mark.parametrize("steps, policy_loss", [(1, "ppo_clip"), (3, "ppo_clip"), (2, "clip_cov")])
def test_at_most_two_micro_batches_exist_at_once(monkeypatch, steps, policy_loss):
    alive, most, made = weakref.WeakSet(), [], []

    class Watched(update.MicroBatch):
        """A micro-batch without slots, so that a weak reference can follow it."""

        __hash__ = object.__hash__

    def watched(*args):
        batch = collate(*args)
        batch = Watched(**{name: getattr(batch, name) for name in batch.__slots__})
        alive.add(batch)
        made.append(1)
        gc.collect()
        most.append(len(alive))
        return batch

    monkeypatch.setattr(update, "collate", watched)
    cfg = Config()
    cfg.learner.zero_stage = 0
    cfg.loss.policy = policy_loss
    [plan] = plans(ROWS, ADVANTAGES, budget=30, steps=steps)
    engine = Engine()
    metrics, _ = PolicyUpdate(engine, None, cfg, load_policy_loss(policy_loss), LAYOUT).run(plan, _ordered(plan), {}, 0, None)
    micro_batches = sum(map(len, plan.steps))
    assert micro_batches >= 2 * steps and metrics["learner/micro_batches"] == micro_batches == len(engine.losses)
    assert len(made) == micro_batches * (1 if steps == 1 else 2)  # once more for the old log-probabilities
    assert max(most) == 2


def _ordered(plan):
    return [ROWS[i] for i in plan.responses]


def run_steps(monkeypatch, advantages, offset=0.0):
    """Run the optimizer steps of an update on an engine whose SGD moves. Returns its weight, the weight after each step, the metrics.

    `offset`: what the loss of the first optimizer step is raised by, without a change of its gradient.
    """
    cfg, engine, weights = Config(), Engine(), []
    cfg.learner.zero_stage, cfg.learner.lr, cfg.learner.warmup_steps = 0, 0.5, 4
    [plan] = plans(ROWS, advantages, budget=30, steps=2)
    first, original, step = len(plan.steps[0]), update.objective, engine.step

    def objective(*args):
        loss, sums = original(*args)
        return loss + (offset if len(engine.losses) < first else 0.0), sums

    def watched_step():
        step()
        if engine.last:
            weights.append(engine.weight.item())

    monkeypatch.setattr(update, "objective", objective)
    engine.step = watched_step
    metrics, _ = PolicyUpdate(engine, None, cfg, load_policy_loss("ppo_clip"), LAYOUT).run(plan, _ordered(plan), {}, 0, None)
    return engine.weight.item(), weights, metrics


def test_a_step_whose_gradient_is_not_finite_is_left_out_and_counted(monkeypatch):
    weight, stepped, metrics = run_steps(monkeypatch, [float("nan")] * len(ROWS))
    assert (weight, stepped) == (-1.0, [])
    assert (metrics["learner/optimizer_steps"], metrics["learner/skipped_steps"]) == (0, 2)
    assert "policy/grad_norm" not in metrics
    assert metrics["policy/lr"] == 0.125


def test_a_loss_that_is_not_finite_leaves_the_step_out_though_its_gradient_is_finite(monkeypatch):
    _, both, _ = run_steps(monkeypatch, ADVANTAGES)
    assert len(both) == 2
    for offset in (float("inf"), float("nan")):
        weight, stepped, metrics = run_steps(monkeypatch, ADVANTAGES, offset)
        assert len(stepped) == 1 and stepped[0] == weight != -1.0  # the second step only
        assert (metrics["learner/optimizer_steps"], metrics["learner/skipped_steps"]) == (1, 1)
        assert metrics["policy/lr"] == 0.125  # of a first step: what was left out does not warm up


def test_the_values_for_marking_are_those_of_the_collated_tensors():
    [plan] = plans(ROWS, ADVANTAGES, budget=40)
    trajectories = _ordered(plan)
    for rows in (*plan.steps[0], []):
        batch = collate(rows, trajectories, plan, LAYOUT, {})
        behaviour_N, advantages_N = behaviour_and_advantages(rows, trajectories, plan)
        np.testing.assert_array_equal(behaviour_N, batch.behaviour_N.numpy())
        np.testing.assert_array_equal(advantages_N, batch.advantages_N.numpy())
        assert behaviour_N.dtype == advantages_N.dtype == np.float32
