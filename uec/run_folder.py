"""The folder of a run: its name, its parts, who may use it, and checkpoints that are either whole or not there.

    runs/NAME/config.yaml              all settings
              metrics.jsonl            a line a step
              rollouts/step_000123.jsonl     every response of the step
                       replayed_000125.jsonl which earlier ones a replay update drew
              checkpoints/step_000100/
              images/0123456789abcdef.png    pictures that the data held as bytes
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

from uec.config.file import SAVED_HEADER, config_text
from uec.config.schema import Config
from uec.errors import BadInput
from uec.system.files import atomic_write, sync_folder

UNFINISHED = ".unfinished-"
REPLACED = ".replaced-"


@dataclass
class RunFolder:
    """Paths of a run. `prepare` finds the folder and refuses what cannot be; nothing is written before `open`."""

    path: Path
    resume_from: Path | None = None  # the checkpoint that `run.resume` asks for; for `auto` it is known once opened
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
    def logs(self) -> Path:
        return self.path / "logs"

    @classmethod
    def prepare(cls, cfg: Config, config_path: Path) -> "RunFolder":
        """Find the folder that the config means. Gives `run.name` its value where it has none.

        BadInput: the folder exists and neither resume nor overwrite was asked for, or it is no run's folder, or what
        `run.resume` names is no checkpoint, or is followed by newer ones.
        """
        run = cfg.run
        checkpoint = None if run.resume in ("never", "auto") else _named_checkpoint(run.resume)
        own = cls(config_path.resolve().parent)
        if run.name is None and checkpoint is not None and checkpoint.parent.name == "checkpoints":
            folder = cls(checkpoint.parent.parent, checkpoint)
        elif run.resume == "auto" and own.name == run.name and own.config == config_path.resolve() and own._is_ours():
            folder = own  # started from its own config.yaml: wherever it lies by now, and from whichever working directory
        else:
            folder = cls(Path(run.dir).resolve() / (run.name or _new_name(cfg, config_path)), checkpoint)
        run.name = folder.name
        if checkpoint is not None and checkpoint.parent == folder.checkpoints:
            folder._refuse_newer_than(checkpoint)
        elif folder.path.exists() and (run.overwrite or run.resume == "auto"):
            folder._refuse_foreign()
        elif folder.path.exists():
            raise BadInput(
                f"the run folder {folder.path} exists; go on with it by run.resume=auto, replace it by run.overwrite=true, "
                "or choose another run.name"
            )
        return folder

    def open(self, cfg: Config) -> Path | None:
        """Make the folder, write config.yaml, and keep other processes out; returns the checkpoint to resume from, if any.

        With `run.overwrite` the old folder is deleted. BadInput where it cannot be written or another process uses it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take()
            if cfg.run.overwrite:
                self._empty()
            save_config(cfg, self.config)
            for part in (self.rollouts, self.checkpoints, self.logs):
                part.mkdir(exist_ok=True)
            self._clear_unfinished()
            if cfg.run.resume == "auto":
                self.resume_from = self.latest_checkpoint()
            self._cut_rollouts(step_of(self.resume_from) if self.resume_from else 0)
        except OSError as error:
            raise BadInput(f"the run folder {self.path} cannot be written ({error.strerror}); give a run.dir that is writable") from error
        return self.resume_from

    def latest_checkpoint(self) -> Path | None:
        """The newest whole one."""
        return max(self._whole(), key=step_of, default=None)

    def begin_checkpoint(self, step: int) -> Path:
        """An empty folder to write the checkpoint into; it counts only once it is committed."""
        unfinished = self.checkpoints / f"{UNFINISHED}{_step_name(step)}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        return unfinished

    def commit_checkpoint(self, unfinished: Path, step: int, keep: int) -> Path:
        """Make it safe on disk, give it its name, and drop the oldest beyond `keep`."""
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
        for old in sorted(self._whole(), key=step_of)[:-keep]:
            gone = old.rename(self.checkpoints / f"{UNFINISHED}{old.name}")  # a half-deleted folder must not look whole
            shutil.rmtree(gone)
        return final

    def _whole(self) -> list[Path]:
        return [path for path in self.checkpoints.glob("step_*") if re.fullmatch(r"step_\d+", path.name) and path.is_dir()]

    def _take(self) -> None:
        """Hold the folder until this process ends."""
        self._lock = open(self.path / ".lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"another process is writing to the run folder {self.path}; wait for it, or choose another run.name") from None

    def _empty(self) -> None:
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()

    def _clear_unfinished(self) -> None:
        """Remove what a crash left; a checkpoint that it caught between two renames gets its name back."""
        for path in self.checkpoints.glob(f"{REPLACED}*"):
            final = self.checkpoints / path.name.removeprefix(REPLACED)
            if not final.exists():
                path.rename(final)
        for path in [*self.checkpoints.glob(f"{UNFINISHED}*"), *self.checkpoints.glob(f"{REPLACED}*")]:
            shutil.rmtree(path)

    def _cut_rollouts(self, step: int) -> None:
        """Drop the files of steps that the resumed run makes again."""
        for path in [*self.rollouts.glob("step_*.jsonl"), *self.rollouts.glob("replayed_*.jsonl")]:
            if int(path.stem.rpartition("_")[2]) > step:
                path.unlink()

    def _refuse_newer_than(self, checkpoint: Path) -> None:
        newer = [path for path in self._whole() if step_of(path) > step_of(checkpoint)]
        if newer:
            names = ", ".join(sorted(path.name for path in newer))
            raise BadInput(
                f"run.resume={checkpoint}: the same run has newer checkpoints ({names}); "
                "delete them to go back, or branch off into a new folder with run.name=..."
            )

    def _is_ours(self) -> bool:
        return self.config.is_file() and self.config.read_text(errors="replace").startswith(SAVED_HEADER)

    def _refuse_foreign(self) -> None:
        """Only a folder that a run of ours made is written to or deleted."""
        folder = self.path.is_dir() and not self.path.is_symlink()
        if not folder or not (self._is_ours() or {path.name for path in self.path.iterdir()} <= {".lock"}):
            raise BadInput(f"{self.path} was not made by a run (no config.yaml of one); delete it by hand, or choose another run.name")


def save_config(cfg: Config, path: str | Path) -> None:
    """Write every setting, atomically, so that `load_config` gives the same again."""
    atomic_write(path, config_text(cfg, path))


def step_of(checkpoint: Path) -> int:
    """The number in step_000100."""
    return int(checkpoint.name.removeprefix("step_"))


def _step_name(step: int) -> str:
    return f"step_{step:06d}"


def _named_checkpoint(path: str) -> Path:
    checkpoint = Path(path).resolve()
    if not checkpoint.is_dir():
        raise BadInput(f"run.resume={path} does not exist; give `auto`, or a folder such as runs/NAME/checkpoints/step_000100")
    if not re.fullmatch(r"step_\d+", checkpoint.name):
        newest = RunFolder(checkpoint).latest_checkpoint()
        hint = f"; did you mean {newest}?" if newest else "; give `auto`, or a folder such as runs/NAME/checkpoints/step_000100"
        raise BadInput(f"run.resume={path} is no checkpoint{hint}")
    return checkpoint


def _new_name(cfg: Config, config_path: Path) -> str:
    """CONFIG-ALGORITHM-DATE-TIME, with a number behind it if that is taken."""
    words = f"{config_path.stem}-{Path(cfg.algorithm).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    name = re.sub(r"[^\w.+=@-]+", "_", words).lstrip(".-")
    taken = 1
    while (Path(cfg.run.dir) / (name if taken == 1 else f"{name}-{taken}")).exists():
        taken += 1
    return name if taken == 1 else f"{name}-{taken}"
