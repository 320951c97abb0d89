"""The interface between a Tracker and the places that show or store metrics."""

from pathlib import Path

from uec.config.schema import Config
from uec.tracking.failure import Failure
from uec.tracking.summary import Summary


class Sink:
    """Base of all sinks; every method does nothing by default. All calls come from the driver's main thread."""

    def start(self, cfg: Config, folder: Path, step: int) -> str | None:
        """Open the sink; `step` is the last completed one. Return a line for the user, e.g. an address, or None."""
        return None

    def stage(self, text: str) -> None:
        """Show a new or updated stage outside the steps."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Show the progress of a long operation."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Take the metrics of a step, all finite."""

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        """Take the metrics of an evaluation after `step` steps, all finite."""

    def event(self, text: str) -> None:
        """Show an event that the user must know."""

    def actor_failed(self, failure: Failure) -> None:
        """Show a failure of an actor; by default as an event."""
        self.event(str(failure))

    def finish(self, summary: Summary) -> None:
        """Show the summary of a run that succeeded; `close` follows."""

    def close(self, ok: bool) -> None:
        """Release files, terminal and services; may be called twice. `ok`: False if the run failed."""
