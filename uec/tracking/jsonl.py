"""metrics.jsonl with one JSON object a step, and events.jsonl with the run's events."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from uec.config.schema import Config
from uec.errors import RunFailed
from uec.tracking.failure import Failure
from uec.tracking.metrics_file import METRICS_FILE, encode, truncate
from uec.tracking.sink import Sink

EVENTS_FILE = "events.jsonl"


class JsonlSink(Sink):
    """Writes and flushes each line, so that the file can be followed and survives the process."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._events: Path | None = None
        self._last: dict[str, float] = {}  # the last line, and its offset below: an evaluation adds to the line of its step
        self._last_at = 0

    def start(self, cfg: Config, folder: Path, step: int) -> None:
        path = folder / METRICS_FILE
        path.touch()
        rows = truncate(path, step)
        self._events = folder / EVENTS_FILE
        self._file = path.open("r+b")
        if rows:
            self._last = rows[-1]
            self._last_at = self._file.seek(0, 2) - len(encode(rows[-1]))

    def log(self, step: int, metrics: dict[str, float]) -> None:
        assert self._file is not None
        if self._last.get("step") == step:
            self._last = self._last | metrics
            self._file.seek(self._last_at)
        else:
            self._last = {"step": step} | metrics
            self._last_at = self._file.seek(0, 2)
        with _named(METRICS_FILE):
            self._file.write(encode(self._last))
            self._file.flush()

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        self.log(step, metrics)

    def event(self, text: str) -> None:
        self._write_event(text, {})

    def actor_failed(self, failure: Failure) -> None:
        self._write_event(str(failure), asdict(failure))

    def _write_event(self, text: str, more: dict[str, Any]) -> None:
        assert self._events is not None
        event = {"time": round(time.time(), 3), "step": self._last.get("step", 0), "event": text, **more}
        with _named(EVENTS_FILE), self._events.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")

    def close(self, ok: bool) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with _named(METRICS_FILE):
                file.close()


@contextmanager
def _named(file: str) -> Iterator[None]:
    """Turn an OSError into a RunFailed that names the file."""
    try:
        yield
    except OSError as error:
        raise RunFailed(f"{file} of the run folder cannot be written: {error}. Make room, and go on from the last checkpoint") from error
