"""A run in a job of `ray job submit --working-dir`, whose working folder is a copy that Ray makes, shares and deletes."""

import os
from collections.abc import Mapping
from pathlib import Path

from uec.config.schema import Config
from uec.errors import BadInput

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it only in the driver of a job
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
RAY_STOP_WAIT_S = 3
"""Ray's default time between SIGTERM and SIGKILL, in seconds."""


def enclosing_job_copy(folder: Path) -> Path | None:
    """Return the copy of a submitted working folder that contains `folder`, or None."""
    for place in (folder, *folder.parents):
        if place.parent.name == "working_dir_files" and place.parent.parent.name == "runtime_resources":
            return place
    return None


def outside_job_copy(folder: Path, working: Path, name: str) -> tuple[Path, list[str]]:
    """Return the folder, moved to the home folder if it is relative to a job's copy, and warnings about it.

    `working`: the working folder; `name`: the setting that gives the folder.
    """
    warnings: list[str] = []
    if enclosing_job_copy(working) is None or folder.is_absolute():
        return folder, warnings
    place = Path.home() / folder
    warnings.append(
        f"{name}={folder} would lie in this job's working folder, a copy that Ray deletes: it is {place} instead; "
        f"{name}=/an/absolute/path puts it elsewhere"
    )
    return place, warnings


def move_run_dir(cfg: Config, working: Path) -> list[str]:
    """Move a relative `run.dir` out of a job's copy; return warnings about it."""
    place, warnings = outside_job_copy(Path(cfg.run.dir), working, "run.dir")
    cfg.run.dir = str(place)
    return warnings


def refuse_job_copy(folder: Path) -> None:
    """Raise BadInput if a run folder is in a job's copy, with which it would be deleted."""
    if (copy := enclosing_job_copy(folder.resolve())) is not None:
        raise BadInput(
            f"the run folder {folder} lies in a job's working folder, {copy}, a copy that Ray deletes; "
            "give run.dir an absolute path outside it, on a file system that stays and that all nodes see"
        )


def stop_note(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a warning if `ray job stop` does not leave time for a step and a checkpoint."""
    if IN_A_JOB not in environment or STOP_WAIT in environment:
        return []
    return [
        f"`ray job stop` kills this run {RAY_STOP_WAIT_S} s after its signal, which may be before a checkpoint; "
        f"submit with --runtime-env launch/job.yaml, or start Ray with {STOP_WAIT}=600"
    ]
