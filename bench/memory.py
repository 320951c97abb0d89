"""Peak memory of a process tree, sampled while it runs."""

import threading
import time
from types import TracebackType
from typing import Self

from bench.processes import memory_bytes

INTERVAL_S = 2.0  # a sample takes about 30 ms


class PeakMemory:
    """Samples a process tree in a thread while the `with` block runs: `peak` in bytes, `cpu_s` the CPU time of the sampling.

    `without`: a process of the tree to leave out, with its descendants.
    """

    def __init__(self, pid: int, without: int | None = None, interval_s: float = INTERVAL_S) -> None:
        self.peak = 0
        self.cpu_s = 0.0
        self._pid, self._without, self._interval_s = pid, without, interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        ended = False
        while not ended:
            begin = time.thread_time()
            self.peak = max(self.peak, memory_bytes(self._pid, self._without))
            self.cpu_s += time.thread_time() - begin
            ended = self._ended.wait(self._interval_s)
