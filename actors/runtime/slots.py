"""What an actor is to the supervisor: its task, its class and resources, and its place in the run."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from ray.actor import ActorHandle

from uec.system.cleanup import environment
from uec.system.process_env import current_compiler_caches, import_path


class Role(Enum):
    """The task of an actor, which decides how it is started."""

    ENGINE = auto()
    LEARNER = auto()
    GRADER = auto()
    IMAGE = auto()
    DIFFICULTY = auto()
    REPLAY = auto()


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """The class of an actor, its arguments and its resources."""

    role: Role
    name: str
    actor: type
    args: tuple[Any, ...]
    cpus: float
    gpus: float = 0.0
    pair: int | None = None  # number of the GPU that it shares with another
    concurrency: int = 1  # simultaneous calls, for an async actor
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def runtime_env(self) -> dict[str, dict[str, str]]:
        """Return Ray's runtime environment of the actor: the variables of every actor, and its `environment`."""
        shared = {"TOKENIZERS_PARALLELISM": "false", **import_path(), **current_compiler_caches(), **environment()}
        return {"env_vars": {**shared, **self.environment}}


@dataclass(eq=False)
class ActorSlot:
    """An actor by its name; the handle changes when it is replaced."""

    spec: ActorSpec
    handle: ActorHandle | None = None
    restarts: int = 0
    failures: deque[float] = field(default_factory=deque)  # times of those within supervise.window_s
    outstanding: int = 0  # responses or gradings that it was asked for and has not answered
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        """Return the actor's name, which is also that of its log."""
        return self.spec.name
