"""A run inside `ray job submit --working-dir`: its working folder is a copy that Ray makes, shares and deletes."""

import os
from collections.abc import Mapping
from pathlib import Path

from uec.config.schema import Config
from uec.errors import BadInput

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in the driver of a job, and nowhere else
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
RAY_STOP_WAIT_S = 3
"""Ray's default: so long after SIGTERM it sends SIGKILL."""


def copy_around(folder: Path) -> Path | None:
    """The copy of a submitted working folder that `folder` lies in, if it does."""
    for place in (folder, *folder.parents):
        if place.parent.name == "working_dir_files" and place.parent.parent.name == "runtime_resources":
            return place
    return None


def outside_copy(folder: Path, working: Path, name: str) -> tuple[Path, list[str]]:
    """A relative folder, moved from a job's copy to the home folder, and what has to be said of it. `name`: of the setting that gave it."""
    said: list[str] = []
    if copy_around(working) is None or folder.is_absolute():
        return folder, said
    place = Path.home() / folder
    said.append(
        f"{name}={folder} would lie in this job's working folder, a copy that Ray deletes: it is {place} instead; "
        f"{name}=/an/absolute/path puts it elsewhere"
    )
    return place, said


def place_runs(cfg: Config, working: Path) -> list[str]:
    """Make a relative `run.dir` safe. Returns what has to be said of it."""
    place, said = outside_copy(Path(cfg.run.dir), working, "run.dir")
    cfg.run.dir = str(place)
    return said


def refuse_copy(folder: Path) -> None:
    """A run that was put into the copy by name would be lost with it."""
    if (copy := copy_around(folder.resolve())) is not None:
        raise BadInput(
            f"the run folder {folder} lies in a job's working folder, {copy}, a copy that Ray deletes; "
            "give run.dir an absolute path outside it, on a file system that stays and that all nodes see"
        )


def stop_note(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Whether `ray job stop` leaves time for a step and a checkpoint."""
    if IN_A_JOB not in environment or STOP_WAIT in environment:
        return []
    return [
        f"`ray job stop` kills this run {RAY_STOP_WAIT_S} s after its signal, which may be before a checkpoint; "
        f"submit with --runtime-env launch/job.yaml, or start Ray with {STOP_WAIT}=600"
    ]
