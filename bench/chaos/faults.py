"""The faults, what is promised of each, and the plan: which come when, by a seed."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Promise(StrEnum):
    """What docs/reliability.md promises."""

    REPLACED = "replaced, goes on"
    GOES_ON = "goes on"
    GOES_BACK = "back to its checkpoint, goes on"
    ENDS = "ends named, resumes"
    KILLED = "dies, resumes"
    GOES_ON_OR_ENDS = "goes on, or ends named and resumes"
    SIGNALLED = "ends with a checkpoint, resumes"
    REPAIRED = "resumes"
    FALLS_BACK = "checkpoint before it, or status 2"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: what is done to which process, or to which files."""

    action: str  # kill, stop, terminate, flip, fill, tear, damage
    target: str  # a kind of process of victims.py, or what is damaged or filled
    promise: Promise
    actor: str = ""  # beginning of the actor's name in events.jsonl, which then has to report its return

    def __str__(self) -> str:
        return f"{self.action} {self.target}"


KILLS = [
    Fault("kill", "engine", Promise.REPLACED, "rollout-"),
    Fault("kill", "engine process", Promise.REPLACED, "rollout-"),
    Fault("kill", "grader", Promise.REPLACED, "reward-"),
    Fault("kill", "grading process", Promise.GOES_ON),
    Fault("kill", "difficulty", Promise.REPLACED, "difficulty"),
    Fault("kill", "replay", Promise.REPLACED, "replay"),
]
STOPS = [
    Fault("stop", "engine", Promise.REPLACED, "rollout-"),
    Fault("stop", "grader", Promise.REPLACED, "reward-"),
    Fault("stop", "grading process", Promise.GOES_ON),
    Fault("stop", "difficulty", Promise.REPLACED, "difficulty"),
    Fault("stop", "replay", Promise.REPLACED, "replay"),
]
LIGHT = [*KILLS, *STOPS]
"""Faults that a process of a run survives."""

LEARNER = Fault("kill", "learner", Promise.GOES_BACK, "learner-")
LEARNER_STOP = Fault("stop", "learner", Promise.GOES_BACK, "learner-")
LEARNER_AGAIN = Fault("kill", "learner", Promise.ENDS)
DRIVER = Fault("kill", "driver", Promise.KILLED)
RAYLET = Fault("kill", "raylet", Promise.GOES_ON_OR_ENDS)
GCS = Fault("kill", "gcs", Promise.GOES_ON_OR_ENDS)
WEIGHTS = Fault("flip", "weights in transfer", Promise.GOES_ON_OR_ENDS)
TAIL = Fault("tear", "metrics tail", Promise.REPAIRED)
TERMINATE = Fault("terminate", "driver", Promise.SIGNALLED)
DISK = Fault("fill", "run folder", Promise.ENDS)
SHARED_MEMORY = Fault("fill", "/dev/shm", Promise.GOES_ON_OR_ENDS)
IMAGE = Fault("kill", "image worker", Promise.GOES_ON)
CHECKPOINT = Fault("damage", "checkpoint", Promise.FALLS_BACK)

ENDINGS: list[list[Fault]] = [
    [LEARNER, LEARNER_AGAIN],
    [LEARNER_STOP, DRIVER],
    [DRIVER, TAIL],
    [RAYLET],
    [GCS],
    [WEIGHTS],
    [TERMINATE],
]
"""What ends one start of the run; TAIL comes between two starts."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the run: faults that it survives, then those that end it, and the steps or seconds before each."""

    faults: list[Fault]
    moments: list[float]  # of each fault: seconds after the run has recovered from the one before
    choices: list[float]  # of each fault: which of several processes, as a share in [0, 1)
    engine: str  # rollout.backend
    ranks: int  # learner.ranks


LONGEST_PAUSE_S = 3.0


def plan(seed: int, light: int, endings: int | None = None) -> list[Start]:
    """Return the starts of the run: all endings (or the first `endings`), shuffled, with `light` other faults among them.

    Every second start runs vLLM in its own process, and only these get the fault that kills it; two of four have two learner ranks.
    Each light fault occurs before any occurs again, as far as the starts allow.
    """
    rng = np.random.default_rng(seed)
    ends = [ENDINGS[i] for i in rng.permutation(len(ENDINGS))[:endings]]
    shares = [light // len(ends) + (i < light % len(ends)) for i in range(len(ends))]
    bag: list[Fault] = []
    starts = []
    for number, (ending, share) in enumerate(zip(ends, shares, strict=True)):
        engine = ("in_actor", "async")[number % 2]
        chosen: list[Fault] = []
        for _ in range(share):
            fits = [fault for fault in bag if engine == "async" or fault.target != "engine process"]
            if not fits:
                bag += [LIGHT[i] for i in rng.permutation(len(LIGHT))]
                fits = [fault for fault in bag if engine == "async" or fault.target != "engine process"]
            chosen.append(fits[0])
            bag.remove(fits[0])
        faults = [*chosen, *ending]
        moments = rng.uniform(0.0, LONGEST_PAUSE_S, len(faults)).round(3).tolist()
        starts.append(Start(faults, moments, rng.random(len(faults)).round(3).tolist(), engine, 1 + number // 2 % 2))
    return starts
