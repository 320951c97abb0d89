"""Weights & Biases, online or offline (then files in the run folder for `wandb sync`)."""

import importlib.util
import os
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from uec.config.schema import Config
from uec.errors import BadInput
from uec.tracking.sink import Sink
from uec.tracking.summary import Summary

if TYPE_CHECKING:
    import wandb

ID_FILE = "wandb_id"  # the run's id at wandb, which a resumed run keeps


class WandbSink(Sink):
    """Sends config and metrics to wandb, but no code, git remote or terminal output, which may contain secrets."""

    def __init__(self) -> None:
        if importlib.util.find_spec("wandb") is None:
            raise BadInput("tracking: the package wandb is not installed; run `pip install wandb`, or leave it out of tracking")
        self._run: wandb.Run | None = None

    def start(self, cfg: Config, folder: Path, step: int) -> str | None:
        import wandb

        file = folder / ID_FILE
        run_id = file.read_text(encoding="utf-8").strip() if file.exists() else secrets.token_hex(4)
        file.write_text(run_id + "\n", encoding="utf-8")
        try:
            self._run = wandb.init(
                id=run_id,
                name=folder.name,
                project=cfg.wandb.project,
                entity=cfg.wandb.entity,
                dir=folder,
                config=asdict(cfg),
                # WANDB_MODE, if set, takes precedence over the config.
                mode=None if os.environ.get("WANDB_MODE") else "offline" if cfg.wandb.mode == "offline" else "online",
                resume="allow",
                settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, save_code=False),
            )
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError, wandb.errors.CommError) as error:
            raise BadInput(
                f"wandb: {str(error).rstrip('.')}. Log in with `wandb login` or WANDB_API_KEY, write to the run folder with "
                "wandb.mode=offline, or leave wandb out of tracking."
            ) from error
        # Uses our step as the x axis: wandb's step must not decrease, as it does when a run resumes from a checkpoint.
        self._run.define_metric("*", step_metric="step")
        if self._run.offline:
            return f"wandb: offline, upload later with `wandb sync {Path(self._run.dir).parent}`"
        return f"wandb: {self._run.url}"

    def log(self, step: int, metrics: dict[str, float]) -> None:
        assert self._run is not None
        self._run.log({**metrics, "step": step})

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        self.log(step, metrics)

    def finish(self, summary: Summary) -> None:
        assert self._run is not None
        self._run.summary.update({"wall_s": summary.wall_s, "tokens": summary.tokens})

    def close(self, ok: bool) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if ok else 1)
            self._run = None
