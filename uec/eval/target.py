"""Resolve the arguments of `uec eval` and `uec export`: a model, a run, or a run's checkpoint, whose model is in hf/."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from uec.config.file import SAVED_HEADER
from uec.errors import BadInput
from uec.models.adapter_folder import is_adapter
from uec.models.pretrained import may_be_hub_name
from uec.run_folder import RunFolder, step_of

CONFIG = "config.yaml"


@dataclass(frozen=True, slots=True)
class Target:
    """A model to be evaluated or exported."""

    given: str  # as on the command line
    path: str  # a folder in Hugging Face format, or a hub name
    label: str  # a short name, usable as a file name
    run: Path | None = None  # the run's folder, if the model is a checkpoint of a run
    step: int | None = None


def find_target(given: str, step: int | None = None) -> Target:
    """Return the model that `given` names; for a run, its newest checkpoint or that of `step`.

    Raises BadInput for a run without a complete checkpoint. Whether a model exists at a hub name is checked by `resolve_model`.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        path = path.resolve()
        if path.name == "hf" and _is_checkpoint(path.parent):
            path = path.parent
        if _is_checkpoint(path):
            return _refuse_step(_of_checkpoint(given, path), step)
        if _is_run(path):
            return _of_checkpoint(given, _choose(given, path, step))
        if (path / CONFIG).is_file() and not (path / "config.json").is_file():
            raise BadInput(f"{given} has a {CONFIG} that no run wrote; give a run's folder, one of its checkpoints, or a model")
        if inside := sorted(one.name for one in path.iterdir() if _is_checkpoint(one)):
            raise BadInput(f"{given} holds checkpoints; give one of them ({', '.join(inside)}), or the run for its newest")
    elif path.exists():
        raise BadInput(f"{given} is a file; give a run's folder, one of its checkpoints, or a model")
    elif not may_be_hub_name(given) or (path.parent.name and path.parent.is_dir()):
        near = sorted(one.name for one in path.parent.iterdir() if one.is_dir()) if path.parent.is_dir() else []
        raise BadInput(f"{given}: there is no such folder" + (f"; in {path.parent} there are {', '.join(near[:8])}" if near else ""))
    label = re.sub(r"[^\w.+=@-]+", "_", path.name if path.is_dir() else given.rpartition("/")[2]).lstrip(".-") or "model"
    return _refuse_step(Target(given, str(path) if path.is_dir() else given, label[:100]), step)


def _refuse_step(target: Target, step: int | None) -> Target:
    if step is not None and step != target.step:
        what = f"the checkpoint of step {target.step}" if target.step is not None else "a model, not a run"
        raise BadInput(f"--step {step} chooses among a run's checkpoints, and {target.given} is {what}")
    return target


def _choose(given: str, run: Path, step: int | None) -> Path:
    folder = RunFolder(run)
    if step is None:
        newest = folder.latest_checkpoint()
        if newest is None:
            raise BadInput(f"{given} is a run without a checkpoint yet; wait for its first (checkpoint.every), or give another run")
        return newest
    there = sorted(path.name for path in folder.checkpoints.glob("step_*"))
    chosen = folder.checkpoints / f"step_{step:06d}"
    if chosen.name not in there:
        raise BadInput(f"{given} has no checkpoint of step {step}; there are {', '.join(there) or 'none'}")
    return chosen


def _of_checkpoint(given: str, checkpoint: Path) -> Target:
    hf = checkpoint / "hf"
    if not (hf / "config.json").is_file() and not is_adapter(hf):
        raise BadInput(f"{given}: {checkpoint} has no model in hf/ (no config.json); give another checkpoint")
    run = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" and _is_run(checkpoint.parent.parent) else None
    step = step_of(checkpoint)
    name = f"{run.name}@{step}" if run else checkpoint.name
    return Target(given, str(hf), name, run, step)


def _is_checkpoint(path: Path) -> bool:
    return re.fullmatch(r"step_\d+", path.name) is not None and (path / "driver.json").is_file()


def _is_run(path: Path) -> bool:
    """Return whether `uec train` made this folder, which then has a config and checkpoints."""
    config = path / CONFIG
    return config.is_file() and (path / "checkpoints").is_dir() and config.read_text(errors="replace").startswith(SAVED_HEADER)


def with_unique_labels(targets: list[Target]) -> list[Target]:
    """Return the targets with different labels. Raises BadInput if the same model is named twice."""
    paths = [target.path for target in targets]
    for target in targets:
        if paths.count(target.path) > 1:
            raise BadInput(f"{target.given} is the same model as another one on the command line ({target.path}); name it once")
    labels = [target.label for target in targets]
    return [
        target if labels.count(target.label) == 1 else replace(target, label=f"{target.label}-{number}")
        for number, target in enumerate(targets, 1)
    ]
