"""A pool of grading processes. It grades many responses at once; one that hangs, crashes or raises fails alone."""

import asyncio
import math
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from uec.config.schema import RewardConfig
from uec.errors import RunFailed
from uec.rewards.process import Grade, GradingProcess
from uec.rewards.wire import Task

# A thread may still wait for a process that is loading; it ends without help.
JOIN_S = 10.0


@dataclass(slots=True)
class Counts:
    """What a pool has counted since its start."""

    graded: int = 0
    errors: int = 0  # timeouts included
    timeouts: int = 0
    replaced: int = 0  # processes that were killed or died
    first_error: str | None = None


@dataclass(slots=True)
class _Job:
    tasks: list[Task]
    grades: Future[list[Grade]] = field(default_factory=Future)


class GradingPool:
    """`reward.processes` grading processes, each with a thread that feeds it."""

    def __init__(self, cfg: RewardConfig, output: int | None = None) -> None:
        """`output` is the file descriptor for everything that the reward functions print; None drops it."""
        self._cfg = cfg
        self._output = output
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
            # The thread that starts a process must outlive it: see GradingProcess.
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
        """Return grades in the order of the tasks. Raises RunFailed only if no grading process can be started any more."""
        # Small pieces, so that a slow response delays few others; a single process gets one piece.
        size = len(tasks) if len(self._processes) == 1 else math.ceil(len(tasks) / (4 * len(self._processes)))
        jobs = [_Job(tasks[start : start + size]) for start in range(0, len(tasks), max(size, 1))]
        with self._lock:
            if self._closing or not self._threads:
                raise RunFailed("the grading pool is not running")
            for job in jobs:
                self._jobs.put(job)
        pieces = [await asyncio.wrap_future(job.grades) for job in jobs]
        grades = [grade for piece in pieces for grade in piece]
        self._count(grades)
        return grades

    def close(self) -> None:
        """Kill all processes; running gradings raise RunFailed."""
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
            if not job.grades.set_running_or_notify_cancel():
                continue
            try:
                job.grades.set_result(self._work(rank, job.tasks))
            except BaseException as error:
                job.grades.set_exception(error)
        self._close_process(rank)

    def _work(self, rank: int, tasks: list[Task]) -> list[Grade]:
        """Grade the tasks, with as many processes one after the other as it takes."""
        grades: dict[int, Grade] = {}
        barren = False  # the last process ended before it began any response
        while len(grades) < len(tasks):
            waiting = [position for position in range(len(tasks)) if position not in grades]
            if barren:
                waiting = waiting[:1]  # to find the response that ends a process as soon as it arrives
            process = self._renew(rank)
            found = process.grade([tasks[position] for position in waiting])
            if self._closing:
                raise RunFailed("the grading pool was closed while it graded")
            if barren and not found:
                found = {0: process.failure("a grading process ended twice when it was handed this response")}
            barren = not found
            grades.update((waiting[position], grade) for position, grade in found.items())
        return [grades[position] for position in range(len(tasks))]

    def _renew(self, rank: int) -> GradingProcess:
        """Return the process of this thread; start a new one if there is none or it was closed."""
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

    def _count(self, grades: list[Grade]) -> None:
        errors = [grade for grade in grades if grade.error is not None]
        self.counts.graded += len(grades)
        self.counts.errors += len(errors)
        self.counts.timeouts += sum(grade.timed_out for grade in errors)
        if errors and self.counts.first_error is None:
            self.counts.first_error = errors[0].error
