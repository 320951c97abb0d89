"""A pool of grading processes: many responses go over at once, and one that hangs, crashes or raises costs only itself."""

import asyncio
import math
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from uec.config.schema import RewardConfig
from uec.errors import RunFailed
from uec.rewards.process import GradingProcess
from uec.rewards.reward_function import ACCURACY, GradingError, list_names, weigh
from uec.rewards.wire import Result, Task

# A thread may be waiting for a process that is still loading; it ends by itself.
JOIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of one response."""

    reward: float
    accuracy: float
    parts: dict[str, float]  # empty if grading failed
    error: str | None
    timed_out: bool


@dataclass(slots=True)
class Counts:
    """What a pool has done so far."""

    graded: int = 0
    errors: int = 0  # timeouts among them
    timeouts: int = 0
    replaced: int = 0  # processes that had to be killed, or died
    first_error: str | None = None


@dataclass(slots=True)
class _Job:
    tasks: list[Task]
    results: Future[list[Result]] = field(default_factory=Future)


class GradingPool:
    """`reward.processes` processes, each fed by a thread of its own.

    `output`: the file descriptor that gets what the reward functions print; none: it is dropped.
    """

    def __init__(self, cfg: RewardConfig, output: int | None = None) -> None:
        self._cfg = cfg
        self._output = output
        self._names = " + ".join(list_names(cfg.fn))
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._processes: list[GradingProcess | None] = [None] * cfg.processes
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._lock = threading.Lock()
        self.counts = Counts()

    def start(self) -> None:
        """Start all processes and wait until they have loaded the reward functions. Raises BadInput or RunFailed."""
        started: list[Future[None]] = [Future() for _ in self._processes]
        for rank, future in enumerate(started):
            # The thread that starts a process has to live as long as it: see GradingProcess.
            thread = threading.Thread(target=self._serve, args=(rank, future), name=f"grading-{rank}", daemon=True)
            self._threads.append(thread)
            thread.start()
        try:
            for future in started:
                future.result()
        except BaseException:
            self.close()
            raise

    async def grade(self, tasks: list[Task]) -> list[Grade]:
        """Grades in the order of the tasks. Raises RunFailed only if grading processes cannot be had any more."""
        # Pieces small enough that a slow response holds up few others; one piece where there is nobody to share with.
        size = len(tasks) if len(self._processes) == 1 else math.ceil(len(tasks) / (4 * len(self._processes)))
        jobs = [_Job(tasks[start : start + size]) for start in range(0, len(tasks), max(size, 1))]
        with self._lock:
            if self._closing or not self._threads:
                raise RunFailed("the grading pool is not running")
            for job in jobs:
                self._jobs.put(job)
        pieces = [await asyncio.wrap_future(job.results) for job in jobs]
        return [self._grade(result) for piece in pieces for result in piece]

    def close(self) -> None:
        """Kill all processes; gradings under way raise RunFailed."""
        with self._lock:
            self._closing = True
            for _ in self._threads:
                self._jobs.put(None)
            for process in self._processes:
                if process is not None:
                    process.interrupt()
        for thread in self._threads:
            thread.join(JOIN_S)

    def _serve(self, rank: int, started: Future[None]) -> None:
        try:
            self._renew(rank)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        while (job := self._jobs.get()) is not None:
            if not job.results.set_running_or_notify_cancel():
                continue
            try:
                job.results.set_result(self._work(rank, job.tasks))
            except BaseException as error:
                job.results.set_exception(error)
        self._close_process(rank)

    def _work(self, rank: int, tasks: list[Task]) -> list[Result]:
        results: dict[int, Result] = {}
        barren = False  # the last process ended before it began on any response
        while len(results) < len(tasks):
            waiting = [position for position in range(len(tasks)) if position not in results]
            if barren:
                waiting = waiting[:1]  # to find out which one a process cannot even be handed
            found = self._renew(rank).grade([tasks[position] for position in waiting])
            if self._closing:
                raise RunFailed("the grading pool was closed while it graded")
            if barren and not found:
                found = {0: Result(None, "a grading process ended twice when it was handed this response")}
            barren = not found
            results.update((waiting[position], result) for position, result in found.items())
        return [results[position] for position in range(len(tasks))]

    def _renew(self, rank: int) -> GradingProcess:
        """The process of this thread: a new one where there is none, or it was closed."""
        process = self._processes[rank]
        if process is not None and not process.closed:
            return process
        if self._closing:
            raise RunFailed("the grading pool was closed")
        fresh = GradingProcess(self._cfg, self._output)
        with self._lock:
            self._processes[rank] = fresh
            self.counts.replaced += process is not None
            if self._closing:
                fresh.interrupt()
        return fresh

    def _close_process(self, rank: int) -> None:
        with self._lock:
            process, self._processes[rank] = self._processes[rank], None
        if process is not None:
            process.close()

    def _grade(self, result: Result) -> Grade:
        grade = None
        error = result.error
        if result.parts is not None:
            try:
                grade = Grade(weigh(self._names, result.parts, self._cfg.weights), result.parts[ACCURACY], result.parts, None, False)
            except GradingError as missing:
                error = str(missing)
        self.counts.graded += 1
        if grade is not None:
            return grade
        self.counts.errors += 1
        self.counts.timeouts += result.timed_out
        self.counts.first_error = self.counts.first_error or error
        return Grade(self._cfg.on_error, self._cfg.on_error, {}, error, result.timed_out)
