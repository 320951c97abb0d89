"""Checkpoints: everything an exact resume needs, gathered from the actors, committed as one folder.

    step_000100/
        hf/               the policy, loads with plain transformers
        learner/          weights, optimizer, schedule and random states of every rank
        store/            replay store, leftover batch
        difficulty.json   each prompt's history
        driver.json       step, weight version, data cursor, engines' random states
"""

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from actors.runtime.supervisor import Supervisor, awaited
from uec.config.schema import Config
from uec.errors import BadInput, RunFailed
from uec.run_folder import RunFolder

if TYPE_CHECKING:
    from actors.driver.controller import Controller

FORMAT = 2


class Checkpoints:
    """Saves and restores a Controller and its actors."""

    def __init__(self, cfg: Config, folder: RunFolder, supervisor: Supervisor) -> None:
        self.cfg = cfg
        self.folder = folder
        self.supervisor = supervisor

    async def save(self, controller: "Controller") -> Path:
        """Write a checkpoint of the state between two steps, and drop the oldest beyond `checkpoint.keep`."""
        supervisor = self.supervisor
        temporary = self.folder.begin_checkpoint(controller.steps_done)
        learner, hf, store = (temporary / name for name in ("learner", "hf", "store"))
        store.mkdir()
        leftover = controller.batch.leftover()
        bundles: dict[Any, int] = {}
        waiting = [replace(t, bundle=bundles.setdefault(t.bundle, len(bundles)), scores=None) for t in leftover]
        try:
            engines = await asyncio.gather(*(supervisor.call(engine, "rng_state") for engine in supervisor.engines))
            _, _, difficulty = await asyncio.gather(
                asyncio.gather(*(supervisor.call(rank, "save", str(learner)) for rank in supervisor.learners)),
                supervisor.call(supervisor.replay, "save", str(store), waiting, *bundles),
                supervisor.call(supervisor.difficulty, "state"),
            )
            await asyncio.gather(*(supervisor.call(rank, "save_hf", str(hf)) for rank in supervisor.learners))
            (temporary / "difficulty.json").write_text(json.dumps(difficulty))
            (temporary / "driver.json").write_text(
                json.dumps(
                    {
                        "format": FORMAT,
                        "step": controller.steps_done,
                        "version": controller.exchange.version,
                        "order": controller.order.state(),
                        "pulse": controller.pulse.state(),
                        "engines": engines,
                        "config": asdict(self.cfg),
                    }
                )
            )
            path = self.folder.commit_checkpoint(temporary, controller.steps_done, keep=self.cfg.checkpoint.keep)
        except OSError as error:
            text = f"no checkpoint of step {controller.steps_done} could be written: {error}. Earlier ones are untouched."
            raise RunFailed(text) from error
        controller.tracker.event(f"checkpoint {path}")
        return path

    def take_up(self, controller: "Controller", path: Path) -> None:
        """Bring the Controller itself to the state of a checkpoint. Raises BadInput if the data is not the same."""
        driver = read_driver(path)
        controller.order.load(driver["order"])
        controller.pulse.load(driver["pulse"])
        controller.steps_done = driver["step"]
        controller.exchange.version = driver["version"]

    async def restore(self, controller: "Controller", path: Path) -> None:
        """Bring all actors to the state of a checkpoint."""
        supervisor = self.supervisor
        driver = read_driver(path)
        await asyncio.gather(
            *(supervisor.call(rank, "load", str(path / "learner")) for rank in supervisor.learners),
            supervisor.call(supervisor.difficulty, "load", json.loads((path / "difficulty.json").read_text())),
            *(
                supervisor.call(engine, "load_rng_state", state)
                for engine, state in zip(supervisor.engines, driver["engines"], strict=False)  # other engines than then: theirs are new
            ),
        )
        replay: Any = supervisor.replay.handle
        leftover, bundle = replay.load.options(num_returns=2).remote(str(path / "store"))
        try:
            waiting = await awaited(leftover)
        except ray.exceptions.RayError as error:
            raise RunFailed(supervisor.account(supervisor.replay, error)) from error
        controller.batch.add(replace(t, bundle=bundle) for t in waiting)
        controller.stabiliser.size = await supervisor.call(supervisor.replay, "size")


def read_driver(path: Path) -> dict[str, Any]:
    """driver.json of a checkpoint. Raises BadInput where it is none of ours."""
    file = path / "driver.json"
    try:
        driver = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(
            f"run.resume: {path} is no checkpoint of a run ({file.name}: {error}); pass a folder such as runs/NAME/checkpoints/step_000100"
        ) from error
    if driver.get("format") != FORMAT:
        found = driver.get("format")
        raise BadInput(f"run.resume: {file} has format {found!r}, this version reads {FORMAT}; resume with the code that wrote it")
    return driver




