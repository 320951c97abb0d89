"""The folder of an evaluation.

    evals/NAME/settings.json            fingerprints of the settings and of each model
               predictions/MODEL.jsonl  one line for each response
               prompts.jsonl            the first model's prompts, one line each
               summary.json             the metrics
               images/  logs/MODEL/
"""

import fcntl
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from uec.config.fields import texts
from uec.data.files import ENDINGS
from uec.errors import BadInput
from uec.eval.fingerprint import Fingerprint, check_unchanged
from uec.eval.predictions import Predictions
from uec.eval.settings import Candidate
from uec.system.files import atomic_write
from uec.types import Prompt

SETTINGS = "settings.json"
SHARED = "settings"
MODELS = "models"


@dataclass
class EvalFolder:
    """The folder's paths and its lock. Nothing is written before `open`."""

    path: Path
    _lock: IO[str] | None = field(default=None, repr=False)

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def images(self) -> Path:
        return self.path / "images"

    def logs(self, label: str) -> Path:
        return self.path / "logs" / label

    def check(self, shared: Fingerprint, models: dict[str, Fingerprint], overwrite: bool) -> None:
        """Raise BadInput if the folder is not an evaluation's, or (without `overwrite`) holds predictions of other settings."""
        if not self.path.exists() or (self.path.is_dir() and not any(path.name != ".lock" for path in self.path.iterdir())):
            return
        if not (self.path / SETTINGS).is_file():
            raise BadInput(f"--to {self.path} is there and is no evaluation's folder (no {SETTINGS}); give another, or delete it by hand")
        if overwrite:
            return
        before = self._settings()
        check_unchanged(self.path, before[SHARED], shared)
        for label, fingerprint in models.items():
            if label in before[MODELS]:
                check_unchanged(self.path, before[MODELS][label], fingerprint)

    def open(self, shared: Fingerprint, models: dict[str, Fingerprint], overwrite: bool) -> None:
        """Create and lock the folder; with `overwrite`, delete its content. Raises BadInput if that is impossible."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._acquire_lock()
            if overwrite:
                for path in self.path.iterdir():
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    elif path.name != ".lock":
                        path.unlink()
            self.predictions.mkdir(exist_ok=True)
            known = self._settings()[MODELS] if (self.path / SETTINGS).is_file() else {}
            content = {SHARED: shared, MODELS: known | models}
            atomic_write(self.path / SETTINGS, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise BadInput(f"--to {self.path} cannot be written ({error.strerror}); give a folder that is writable") from error

    def read(self, label: str, n: int) -> Predictions:
        """Return a model's predictions so far."""
        return Predictions.read(self.predictions / f"{label}.jsonl", n)

    def write_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Write the prompts, to which the predictions refer by index."""
        rows = [
            {"prompt": prompt.index, "text": prompt.text, "answer": prompt.answer}
            | ({"images": [Path(image).name for image in prompt.images]} if prompt.images else {})
            for prompt in prompts
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        atomic_write(self.path / "prompts.jsonl", text.encode("utf-8", errors="backslashreplace"))

    def _settings(self) -> dict[str, dict[str, Fingerprint]]:
        path = self.path / SETTINGS
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {SHARED: dict(found[SHARED]), MODELS: dict(found[MODELS])}
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise BadInput(f"{path} cannot be read ({error}); give another --to, or --overwrite") from error

    def _acquire_lock(self) -> None:
        """Lock the folder until this process ends."""
        self._lock = open(self.path / ".lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"another process is writing to {self.path}; wait for it, or give another --to") from None


def default_name(candidates: Sequence[Candidate]) -> str:
    """Return MODEL-on-DATA, so that the same command finds its folder again."""
    data = "-".join(map(_stem, texts(candidates[0].cfg.data.eval)))
    models = candidates[0].target.label + "".join(f"-{one.target.label}" for one in candidates[1:3])
    rest = f"-and-{len(candidates) - 3}-more" if len(candidates) > 3 else ""
    name = f"{models}{rest}-on-{data}"
    return re.sub(r"[^\w.+=@-]+", "_", name).lstrip(".-")[:180]


def _stem(data: str) -> str:
    """Return `test` for path/to/test.jsonl, `gsm8k:main` for openai/gsm8k:main."""
    return Path(data.rpartition("/")[2]).stem if data.lower().endswith(ENDINGS) else data.rpartition("/")[2]
