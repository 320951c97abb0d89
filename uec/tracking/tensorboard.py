"""TensorBoard event files in the run folder; view them with `tensorboard --logdir runs`."""

import importlib.util
import time
from pathlib import Path
from typing import TYPE_CHECKING

from uec.config.schema import Config
from uec.errors import BadInput
from uec.tracking.sink import Sink

if TYPE_CHECKING:
    from tensorboard.summary import Writer

FOLDER = "tensorboard"
FLUSH_S = 5.0  # minimum seconds between flushes, which wait for the writer's thread


class TensorboardSink(Sink):
    """Writes with TensorBoard's writer; torch's writer would load torch into the driver."""

    def __init__(self) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise BadInput("tracking: the package tensorboard is not installed; run `pip install tensorboard`, or leave it out of tracking")
        self._writer: Writer | None = None
        self._flushed = time.monotonic()

    def start(self, cfg: Config, folder: Path, step: int) -> None:
        from tensorboard.summary import Writer

        self._writer = Writer(str(folder / FOLDER))

    def log(self, step: int, metrics: dict[str, float]) -> None:
        assert self._writer is not None
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step)
        if time.monotonic() - self._flushed > FLUSH_S:
            self._writer.flush()
            self._flushed = time.monotonic()

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        self.log(step, metrics)

    def close(self, ok: bool) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
