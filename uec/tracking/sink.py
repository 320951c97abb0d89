"""What a Tracker needs of a place where figures go."""

from pathlib import Path

from uec.config.schema import Config
from uec.tracking.summary import Summary


class Sink:
    """Override what the place can show; the rest does nothing. All calls come from the driver's main thread."""

    def start(self, cfg: Config, folder: Path, step: int) -> str | None:
        """Open; `step` is the last one done. Returns a line for the person, e.g. where to look, or None."""
        return None

    def stage(self, text: str) -> None:
        """A new or updated stage outside the steps."""

    def progress(self, label: str, done: int, total: int) -> None:
        """How far something long has come."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """The figures of a step, all finite."""

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        """The figures of an evaluation after `step` steps, all finite."""

    def event(self, text: str) -> None:
        """Something that a person must know."""

    def finish(self, summary: Summary) -> None:
        """The run has ended well; `close` follows."""

    def close(self, ok: bool) -> None:
        """Let go of files, terminal and services; may be called twice. `ok`: False if the run failed."""
