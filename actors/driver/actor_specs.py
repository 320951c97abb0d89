"""Which actors a run or an evaluation has, and what each needs."""

from pathlib import Path

from actors.driver.device_turns import DeviceTurns
from actors.driver.image_cache import ImageCache
from actors.runtime.slots import ActorSpec, Role
from actors.runtime.supervisor import Supervisor
from actors.workers.difficulty import DifficultyActor
from actors.workers.image import ImageActor
from actors.workers.image import environment as image_environment
from actors.workers.learner import LearnerActor
from actors.workers.learner import environment as learner_environment
from actors.workers.replay import ReplayActor
from actors.workers.reward import RewardActor
from actors.workers.rollout import RolloutActor
from actors.workers.rollout import environment as rollout_environment
from uec.config.schema import Config
from uec.config.validate import SMALL_ACTOR_CPUS
from uec.system.platform import detect
from uec.tracking.tracker import Tracker


def training_actors(cfg: Config, device: str, journals: Path | None = None) -> list[ActorSpec]:
    """Return the specs of every actor of a training run. `journals`: folder of the journals of its two stores; None: without them."""
    paired = device != "cpu" and cfg.cluster.placement == "colocated"

    def journal(name: str) -> tuple[Path, ...]:
        return () if journals is None else (journals / f"{name}.journal",)

    small = [
        ActorSpec(Role.DIFFICULTY, "difficulty", DifficultyActor, (cfg, *journal("difficulty")), SMALL_ACTOR_CPUS),
        ActorSpec(Role.REPLAY, "replay", ReplayActor, (cfg, *journal("replay")), SMALL_ACTOR_CPUS),
    ]
    computing = [*_engines(cfg, device, paired), *_learners(cfg, device, paired, optimizer=True)]
    return [*computing, *_graders(cfg), *_image_workers(cfg, device), *small]


def sampling_actors(cfg: Config, device: str) -> list[ActorSpec]:
    """Return the specs of the actors that sample an evaluation's responses: engines, graders and image workers."""
    return [*_engines(cfg, device), *_graders(cfg), *_image_workers(cfg, device)]


def entropy_actors(cfg: Config, device: str) -> list[ActorSpec]:
    """Return the specs of the actors that compute an evaluation's entropies: learners without an optimizer, and image workers.

    They start after the engines have ended, so each rank has a whole GPU.
    """
    return [*_learners(cfg, device, optimizer=False), *_image_workers(cfg, device)]


def supervise(cfg: Config, specs: list[ActorSpec], logs: Path, tracker: Tracker, namespace: str | None = None) -> Supervisor:
    """Make the supervisor of these actors, with its image cache. `namespace`: see Supervisor."""
    supervisor = Supervisor(cfg, specs, logs, tracker, namespace)
    supervisor.images = ImageCache(supervisor)
    supervisor.turns = DeviceTurns(cfg, supervisor)
    return supervisor


def _engines(cfg: Config, device: str, paired: bool = False) -> list[ActorSpec]:
    gpus = 0.0 if device == "cpu" else float(cfg.rollout.tensor_parallel)
    return [
        ActorSpec(
            Role.ENGINE, f"rollout-{i}", RolloutActor, (cfg, i), cfg.rollout.cpus, gpus, i if paired else None,
            concurrency=10_000, environment=rollout_environment(cfg, i),
        )
        for i in range(cfg.rollout.engines)
    ]  # fmt: skip


def _learners(cfg: Config, device: str, paired: bool = False, *, optimizer: bool) -> list[ActorSpec]:
    gpus = 0.0 if device == "cpu" else 1.0
    return [
        ActorSpec(
            Role.LEARNER, f"learner-{i}", LearnerActor, (cfg, i) if optimizer else (cfg, i, True), cfg.learner.cpus, gpus,
            i if paired else None, environment=learner_environment(cfg, i),
        )
        for i in range(cfg.learner.ranks)
    ]  # fmt: skip


def _graders(cfg: Config) -> list[ActorSpec]:
    return [
        ActorSpec(Role.GRADER, f"reward-{i}", RewardActor, (cfg, i), cfg.reward.cpus, concurrency=1000) for i in range(cfg.reward.workers)
    ]


def _image_workers(cfg: Config, device: str) -> list[ActorSpec]:
    """Return the specs of image workers, which start only if prompts have images."""
    half = detect(cfg, device).dtype == "bfloat16"
    return [
        ActorSpec(Role.IMAGE, f"image-{i}", ImageActor, (cfg, i, half), cfg.data.image.cpus, environment=image_environment())
        for i in range(cfg.data.image.workers)
    ]
