"""Every algorithm of configs/algorithm for real: three steps on real engines, graders and learners."""

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.driver.controller import Controller
from actors.driver.weight_sync import WeightSync
from bench.run_actors import run_actors
from uec.config.file import load_config
from uec.config.schema import Config
from uec.config.validate import validate
from uec.models.logprob_gap import Tolerance
from uec.tracking.metrics import describe

STEPS = 3
ALGORITHMS = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "configs/algorithm").glob("*.yaml"))
SMALL = ("train.prompts_per_step=12", "replay.every=2", "replay.min_rows=1", "learner.optimizer_steps=2", "eval.prompts=2")
BASELINES_OF_OUR_OWN = {
    "dynamic sampling + exploration": ("uec", "dynamic_sampling.enabled=true"),
    "tempered correction": ("uec", "exploration.correction=tempered"),
    "importance weights for both": ("uec", "exploration.correction=truncated-is", "loss.mismatch_cap=2"),
    "rounds, and hotter with each failure": (
        "uec", "exploration.rounds=4", "exploration.schedule=failures", "exploration.temperature_end=1.5",
        "difficulty.max_solve_rate=0.125",
    ),
    "explore for one step": ("uec", "exploration.until=0.33", "replay.draw=advantage", "replay.max_age=5", "replay.logprobs=recomputed"),
    "sampled one step ahead": ("uec", "train.max_staleness=1"),
}  # fmt: skip


def config(project: Path, algorithm: str, *overrides: str) -> Config:
    cfg = load_config(project / "configs/llm.yaml", [f"algorithm={algorithm}", f"train.steps={STEPS}", *SMALL, *overrides])
    validate(cfg)
    return cfg


async def start_anew(controller: Controller, cfg: Config) -> Controller:
    """Run another config on the same processes, because imports and engine start take time. Weights are those of the initial model."""

    def adopt(actor: Any, cfg: Config) -> None:
        actor.cfg = cfg
        if hasattr(actor, "history") or hasattr(actor, "store"):
            actor.__init__(cfg)
        if hasattr(actor, "version"):
            actor.version, actor.steps_done = 0, 0

    supervisor = controller.supervisor
    supervisor.cfg = cfg
    await asyncio.gather(*(slot.handle.__ray_call__.remote(adopt, cfg) for slot in supervisor.slots))
    address = await supervisor.learners[0].handle.address.remote()
    await asyncio.gather(*(learner.handle.start.remote(address) for learner in supervisor.learners))
    weights = WeightSync(cfg, supervisor, controller.dataset.train, tolerance=Tolerance(1e-3, 1e-3))
    return Controller(cfg, supervisor, controller.dataset, weights, controller.log, controller.tracker)


async def three_steps(controller: Controller) -> list[dict[str, float]]:
    await controller.weights.start()
    rows = []
    for step in range(STEPS):
        rows.append(await controller.step(step + 1))
        controller.steps_done += 1
    return rows


@pytest.mark.e2e
def test_every_algorithm_takes_three_steps_and_its_metrics_are_finite(project: Path, tmp_path: Path) -> None:
    runs = {name: (name,) for name in ALGORITHMS} | BASELINES_OF_OUR_OWN
    taken: dict[str, list[dict[str, float]]] = {}

    async def all_runs() -> None:
        async with run_actors(config(project, "uec"), tmp_path) as first:
            for name, (algorithm, *overrides) in runs.items():
                cfg = config(project, algorithm, *overrides)
                taken[name] = await three_steps(await start_anew(first, cfg))

    asyncio.run(all_runs())
    assert not ray.is_initialized()
    for name, rows in taken.items():
        for row in rows:
            assert all(math.isfinite(value) for value in row.values()), (name, row)
            assert [key for key in row if describe(key) is None] == [], name
        assert rows[-1]["weights/version"] >= 1 or name == "uec_released", name
        assert any("policy/entropy" in row for row in rows) or name == "uec_released", name
    last = {name: rows[-1] for name, rows in taken.items()}
    # The metrics show what each part does.
    assert last["grpo"]["explore/groups"] == 0 and last["uec"]["explore/groups"] > 0
    assert any(row["rollout/prompts"] > 12 for row in taken["dapo"])
    assert any(row["rollout/prompts"] > 12 for row in taken["dynamic sampling + exploration"])
    assert "policy/kl" in last["reinforce_pp"] and "policy/kl" not in last["grpo"]
    assert last["clip_cov"]["policy/marked_frac"] >= 0 and last["kl_cov"]["policy/marked_frac"] > 0
    assert "retain/waiting" in last["uec_released"] and last["uec_released"]["retain/waiting"] > 0
    assert 0 < last["importance weights for both"]["policy/behaviour_weight"] <= 2
    assert last["dr_grpo"]["retain/kept_frac"] == 1 and last["grpo"]["retain/kept_frac"] < 1
    assert [row["explore/active"] for row in taken["explore for one step"]] == [1, 0, 0]
    assert any(row.get("explore/temperature", 0) > 1.2 for row in taken["rounds, and hotter with each failure"]) is False  # first visits
    ahead = taken["sampled one step ahead"]
    assert [row["rollout/version_lag_max"] for row in ahead] == [0, 1, 1]
    assert all(0.5 < row["policy/behaviour_weight"] <= 2 and 0 <= row["policy/behaviour_clip_frac"] < 0.2 for row in ahead)
    assert last["reinforce_ada"]["rollout/tokens"] > last["grpo"]["rollout/tokens"]


def test_no_two_algorithms_are_the_same_settings(project: Path) -> None:
    settings = {repr(replace(config(project, name), algorithm="")) for name in ALGORITHMS}
    assert len(settings) == len(ALGORITHMS)
