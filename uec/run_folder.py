"""The folder of a run: its name, its files, its lock, and checkpoints that are either complete or absent.

    runs/NAME/config.yaml              all settings
              metrics.jsonl            a line per step
              rollouts/step_000123.jsonl     every response of the step
                       replayed_000125.jsonl the earlier responses that a replay update drew
              checkpoints/step_000100/
              bad_batches/             batches whose loss or gradient was not finite, if there were any
              journals/                what a replaced DifficultyActor or ReplayActor reads
              images/0123456789abcdef.png    images that the data contains as bytes
              logs/
"""

import fcntl
import os
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from uec.checkpoint_files import damage
from uec.config.file import SAVED_HEADER, config_text
from uec.config.schema import Config
from uec.errors import BadInput
from uec.paths import check_path
from uec.system.files import atomic_write, sync_folder

UNFINISHED = ".unfinished-"
REPLACED = ".replaced-"
DAMAGED = "damaged-"


@dataclass
class RunFolder:
    """Paths of a run. `prepare` finds and checks the folder; only `open` and later methods write."""

    path: Path
    resume_from: Path | None = None  # the checkpoint of `run.resume`; `open` sets it for `auto`
    damaged: dict[Path, str] = field(default_factory=dict)  # checkpoints that were passed over, and what is wrong with each
    _whole: Path | None = field(default=None, repr=False)  # the checkpoint whose files were checked
    _lock: IO[str] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def rollouts(self) -> Path:
        return self.path / "rollouts"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def images(self) -> Path:
        return self.path / "images"

    @property
    def journals(self) -> Path:
        return self.path / "journals"

    @property
    def bad_batches(self) -> Path:
        return self.path / "bad_batches"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @classmethod
    def prepare(cls, cfg: Config, config_path: Path) -> "RunFolder":
        """Return the folder that the config names, and set `run.name` if it is unset.

        Raises BadInput if the folder exists without `run.resume` or `run.overwrite`, if it is not a run folder, if `run.resume` is not a
        checkpoint, or if the run has newer checkpoints.
        """
        run = cfg.run
        checkpoint = None if run.resume in ("never", "auto") else _named_checkpoint(run.resume)
        config_folder = cls(config_path.resolve().parent)
        if run.name is None and checkpoint is not None and checkpoint.parent.name == "checkpoints":
            folder = cls(checkpoint.parent.parent, checkpoint)
        elif run.resume == "auto" and config_folder._is_run_of(config_path, run.name):
            folder = config_folder  # resumed by its config.yaml: the folder may have moved, and any working directory works
        else:
            check_path(run.dir, "run.dir")
            folder = cls(Path(run.dir).resolve() / (run.name or _new_name(cfg, config_path)), checkpoint)
        run.name = folder.name
        if checkpoint is not None and checkpoint.parent == folder.checkpoints:
            folder._refuse_newer_than(checkpoint)
        elif folder.path.exists() and (run.overwrite or run.resume == "auto"):
            folder._refuse_foreign()
        elif folder.path.exists():
            raise BadInput(
                f"the run folder {folder.path} exists; resume it with run.resume=auto, replace it with run.overwrite=true, "
                "or choose another run.name"
            )
        return folder

    def open(self, cfg: Config) -> Path | None:
        """Make and lock the folder and write config.yaml; return the checkpoint to resume from, or None.

        `run.overwrite` deletes the old contents. Raises BadInput if the folder is not writable or another process uses it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock_folder()
            if cfg.run.overwrite:
                self._empty()
            save_config(cfg, self.config)
            for part in (self.rollouts, self.checkpoints, self.journals, self.logs):
                part.mkdir(exist_ok=True)
            self._clear_unfinished()
            self._go_back_to(self.checkpoint(cfg))
        except OSError as error:
            raise BadInput(f"the run folder {self.path} cannot be written ({error.strerror}); give a run.dir that is writable") from error
        return self.resume_from

    def checkpoint(self, cfg: Config) -> Path | None:
        """Return the checkpoint that a run resumes from, or None; `run.overwrite` leaves none of this folder's.

        With `auto`, the newest whose files are as they were written; `damaged` names the others. Raises BadInput if no file can be trusted.
        """
        if cfg.run.resume == "auto" and not cfg.run.overwrite:
            candidates = self._newest_first()
        else:
            candidates = [self.resume_from] if self.resume_from and cfg.run.resume != "auto" else []
        newest = self._newest_whole(candidates)
        if newest is None and candidates:
            raise BadInput(f"run.resume={cfg.run.resume}: {self.damaged[candidates[0]]}; {_instead(candidates[0], self.damaged)}")
        return newest

    def _newest_whole(self, candidates: list[Path]) -> Path | None:
        """Return the first checkpoint whose files are as they were written; `damaged` then names those before it."""
        for candidate in candidates:
            problem = None if candidate == self._whole else self.damaged.get(candidate) or damage(candidate)
            if problem is None:
                self._whole = candidate
                return candidate
            self.damaged[candidate] = problem
        return None

    def rewind(self) -> Path | None:
        """Go back to the newest checkpoint within a run that lost a learner; return it, or None for the initial model."""
        self._clear_unfinished()
        self._whole = None  # its files may have been damaged since
        self._go_back_to(self._newest_whole(self._newest_first()) or self.resume_from)
        return self.resume_from

    def _go_back_to(self, checkpoint: Path | None) -> None:
        """Make a checkpoint, or None for the initial model, the state of this folder: later rollouts go, damaged checkpoints go aside."""
        self.resume_from = checkpoint
        self._set_damaged_aside()
        self._drop_rollouts_after(step_of(checkpoint) if checkpoint else 0)

    def latest_checkpoint(self) -> Path | None:
        """Return the newest complete checkpoint, or None."""
        return max(self._complete_checkpoints(), key=step_of, default=None)

    def begin_checkpoint(self, step: int) -> Path:
        """Return an empty folder for a checkpoint, which counts only after `commit_checkpoint`."""
        unfinished = self.checkpoints / f"{UNFINISHED}{_step_name(step)}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        return unfinished

    def commit_checkpoint(self, unfinished: Path, step: int, keep: int) -> Path:
        """Flush a checkpoint to disk, rename it to its final name, and delete the oldest ones beyond `keep`; return the final folder."""
        for folder, _, names in os.walk(unfinished):
            for name in names:
                with open(Path(folder, name), "rb") as file:
                    os.fsync(file.fileno())
            sync_folder(Path(folder))
        final = self.checkpoints / _step_name(step)
        replaced = self.checkpoints / f"{REPLACED}{final.name}"
        if final.exists():
            final.rename(replaced)
        unfinished.rename(final)
        sync_folder(self.checkpoints)
        shutil.rmtree(replaced, ignore_errors=True)
        for old in sorted(self._complete_checkpoints(), key=step_of)[:-keep]:
            renamed = old.rename(self.checkpoints / f"{UNFINISHED}{old.name}")  # a half-deleted folder must not look complete
            shutil.rmtree(renamed)
        return final

    def _newest_first(self) -> list[Path]:
        return sorted(self._complete_checkpoints(), key=step_of, reverse=True)

    def _complete_checkpoints(self) -> list[Path]:
        return [path for path in self.checkpoints.glob("step_*") if re.fullmatch(r"step_\d+", path.name) and path.is_dir()]

    def _lock_folder(self) -> None:
        """Lock the folder until this process ends. Raises BadInput if another process holds the lock."""
        self._lock = open(self.path / ".lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"another process is writing to the run folder {self.path}; wait for it, or choose another run.name") from None

    def _empty(self) -> None:
        """Delete the contents of the folder except its lock."""
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()

    def _clear_unfinished(self) -> None:
        """Delete what a crash left behind, and restore a checkpoint that the crash left between two renames."""
        for path in self.checkpoints.glob(f"{REPLACED}*"):
            final = self.checkpoints / path.name.removeprefix(REPLACED)
            if not final.exists():
                path.rename(final)
        for path in [*self.checkpoints.glob(f"{UNFINISHED}*"), *self.checkpoints.glob(f"{REPLACED}*")]:
            shutil.rmtree(path)

    def _set_damaged_aside(self) -> None:
        """Rename damaged checkpoints, so that they neither count as the newest nor displace one that is whole."""
        for checkpoint in [path for path in self.damaged if path.exists()]:
            aside = checkpoint.with_name(f"{DAMAGED}{checkpoint.name}")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)

    def _drop_rollouts_after(self, step: int) -> None:
        """Delete the rollout files of later steps, which the resumed run repeats."""
        for path in [*self.rollouts.glob("step_*.jsonl"), *self.rollouts.glob("replayed_*.jsonl")]:
            if int(path.stem.rpartition("_")[2]) > step:
                path.unlink()

    def _refuse_newer_than(self, checkpoint: Path) -> None:
        """Raise BadInput if the run has checkpoints after this one."""
        newer = [path for path in self._complete_checkpoints() if step_of(path) > step_of(checkpoint)]
        if newer:
            names = ", ".join(sorted(path.name for path in newer))
            raise BadInput(
                f"run.resume={checkpoint}: the same run has newer checkpoints ({names}); "
                "delete them to go back, or start a new run folder from it with run.name=..."
            )

    def _is_run_of(self, config_path: Path, name: str | None) -> bool:
        """Return whether this is the folder of the run `name`, and `config_path` is its config.yaml."""
        return self.name == name and self.config == config_path.resolve() and self._has_saved_config()

    def _has_saved_config(self) -> bool:
        """Return whether a run wrote the config.yaml of the folder."""
        return self.config.is_file() and self.config.read_text(errors="replace").startswith(SAVED_HEADER)

    def _refuse_foreign(self) -> None:
        """Raise BadInput if no run made this folder, before it is written to or deleted."""
        is_folder = self.path.is_dir() and not self.path.is_symlink()
        if not is_folder or not (self._has_saved_config() or {path.name for path in self.path.iterdir()} <= {".lock"}):
            raise BadInput(f"{self.path} is not a run folder (no config.yaml of a run in it); delete it, or choose another run.name")


def save_config(cfg: Config, path: str | Path) -> None:
    """Write all settings atomically; `load_config` of the file returns the same settings."""
    atomic_write(path, config_text(cfg, path))


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint: the number in step_000100."""
    return int(checkpoint.name.removeprefix("step_"))


def _step_name(step: int) -> str:
    return f"step_{step:06d}"


def _named_checkpoint(path: str) -> Path:
    """Return the checkpoint that `run.resume` names. Raises BadInput if it is not one."""
    checkpoint = Path(path).resolve()
    if not checkpoint.is_dir():
        raise BadInput(f"run.resume={path} does not exist; give `auto`, or a folder such as runs/NAME/checkpoints/step_000100")
    if not re.fullmatch(r"step_\d+", checkpoint.name):
        newest = RunFolder(checkpoint).latest_checkpoint()
        hint = f"; did you mean {newest}?" if newest else "; give `auto`, or a folder such as runs/NAME/checkpoints/step_000100"
        raise BadInput(f"run.resume={path} is not a checkpoint{hint}")
    return checkpoint


def _instead(checkpoint: Path, damaged: dict[Path, str]) -> str:
    """Say what a run can do whose checkpoint is damaged."""
    others = RunFolder(checkpoint.parent.parent)._complete_checkpoints()
    before = [path for path in others if path not in damaged and step_of(path) < step_of(checkpoint)]
    newest = max(before, key=step_of, default=None)
    return f"the checkpoint before it is {newest}" if newest else "there is no earlier checkpoint; copy the file back, or start a new run"


def _new_name(cfg: Config, config_path: Path) -> str:
    """Return CONFIG-ALGORITHM-DATE-TIME, followed by a number if this name is taken."""
    full_name = f"{config_path.stem}-{Path(cfg.algorithm).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    name = re.sub(r"[^\w.+=@-]+", "_", full_name).lstrip(".-")
    number = 1
    while (Path(cfg.run.dir) / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return name if number == 1 else f"{name}-{number}"
