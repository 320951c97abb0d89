"""Learner ranks in processes of a test, on real DeepSpeed, and comparisons of what they return."""

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from actors.workers.learner import LearnerActor
from uec.config.schema import Config
from uec.errors import BadInput, RunFailed


class Ranks:
    """Processes that are the ranks of one learner after another, so that each imports DeepSpeed once."""

    def __init__(self, count: int) -> None:
        self.pools = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(count)]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = ("127.0.0.1", probe.getsockname()[1])

    def run(self, scenario: Callable[..., Any], cfg: Config, *args: Any, actor: type[LearnerActor] = LearnerActor) -> list[Any]:
        """Start a learner from cfg and return what `scenario(learner, *args)` returned on each rank."""
        cfg.learner.ranks = len(self.pools)
        calls = [pool.submit(_run_rank, actor, scenario, cfg, rank, self.address, *args) for rank, pool in enumerate(self.pools)]
        return [call.result(timeout=300) for call in calls]


def _run_rank(
    actor: type[LearnerActor], scenario: Callable[..., Any], cfg: Config, rank: int, address: tuple[str, int], *args: Any
) -> Any:
    learner = actor(cfg, rank)
    learner.start(address)
    try:
        return scenario(learner, *args)
    finally:
        learner.publisher.close()


def start_ranks(count: int) -> Iterator[Ranks]:
    """Yield the ranks, and shut them down afterwards."""
    ranks = Ranks(count)
    yield ranks
    for pool in ranks.pools:
        pool.shutdown()


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert_close(ours, theirs, atol=0)


def saved_tensors(folder: Path, kind: str) -> dict[str, Tensor]:
    """Return the flat `weight`, `exp_avg` or `exp_avg_sq` of each parameter in a saved state, joined from the ranks' files."""
    parts: dict[str, list[tuple[int, Tensor]]] = {}
    for path in folder.glob("state-*.safetensors"):
        with safe_open(path, "pt") as file:
            begins = json.loads(file.metadata()["begins"])
            for key in file.keys():  # noqa: SIM118
                of, name = key.split("/", 1)
                if of == kind:
                    parts.setdefault(name, []).append((begins[name], file.get_tensor(key)))
    return {name: torch.cat([part for _, part in sorted(found, key=lambda item: item[0])]) for name, found in parts.items()}


def gradients(folder: Path) -> dict[str, Tensor]:
    """Return the gradients of the only step before saving: AdamW's exp_avg is then (1 - beta1) times the gradient."""
    return {name: tensor / 0.1 for name, tensor in saved_tensors(folder, "exp_avg").items()}


# Scenarios, which run in the processes of `Ranks`.


def weights(learner: LearnerActor) -> dict[str, Tensor]:
    from uec.models.deepspeed_engine import gathered

    return {name: tensor.clone() for name, tensor in gathered(learner.policy.hf.named_parameters())}


def loading_fails(learner: LearnerActor, folder: str) -> str:
    try:
        learner.load(folder)
    except (BadInput, RunFailed) as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"
