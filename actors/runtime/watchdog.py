"""The watchdog: ask every actor's process for a sign of life, and kill one that gives none (SIGSTOP, a kernel that holds the GIL).

A Ray concurrency group answers, so that a long call of the actor does not delay it. The watchdog only kills: the calls to the dead actor
then fail, and the supervisor does what it does about any death.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

GROUP = "life"
"""Name of the concurrency group that answers."""

TICKS = 12
"""Questions within the longest silence."""


@dataclass(frozen=True, slots=True)
class Process:
    """An actor's process."""

    pid: int
    node: str  # Ray's id


def this_process() -> Process:
    """Return the process of the actor that calls this."""
    return Process(os.getpid(), ray.get_runtime_context().get_node_id())


@dataclass(eq=False)
class Pulse:
    """The signs of life of one actor."""

    handle: Any
    asked: asyncio.Future[Process] | None = None
    silent_s: float = 0.0
    process: Process | None = None  # None before the first sign
    verdict: str = ""  # why the watchdog killed it

    def kill(self) -> None:
        """End the process by SIGKILL, which also ends a stopped one."""
        if self.process is not None:
            kill(self.process)


class Watchdog:
    """Watches the actors that `handles` returns; those that are starting are not among them."""

    def __init__(self, handles: Callable[[], Iterable[Any]], timeout_s: float) -> None:
        self._handles = handles
        self._timeout_s = timeout_s
        self._pulses: dict[Any, Pulse] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()

    def pulse(self, handle: Any) -> Pulse:
        """Return what is known of an actor."""
        return self._pulses.get(handle) or Pulse(handle)

    async def _watch(self) -> None:
        tick, clock = self._timeout_s / TICKS, asyncio.get_running_loop().time
        self.look(0.0)
        while True:
            before = clock()
            await asyncio.sleep(tick)
            # If this process stood still itself (Ctrl-Z, a busy machine), the actors had no more time to answer than one tick.
            self.look(min(clock() - before, 2 * tick))

    def look(self, elapsed_s: float) -> None:
        """Read the answers of the last `elapsed_s` seconds, kill an actor that has been silent for too long, and ask again."""
        handles = list(self._handles())
        self._pulses = {handle: self._pulses.get(handle) or Pulse(handle) for handle in handles}
        for pulse in self._pulses.values():
            if pulse.asked is None:
                pulse.asked = asyncio.ensure_future(_answer(pulse.handle))
            elif not pulse.asked.done():
                pulse.silent_s += elapsed_s
                if pulse.silent_s >= self._timeout_s and not pulse.verdict:
                    pulse.verdict = f"it gave no sign of life for {pulse.silent_s:.0f} s (supervise.timeout_s={self._timeout_s:g})"
                    pulse.kill()
            elif pulse.asked.exception() is None:  # else it is dead, and the next call to it will say so
                pulse.process, pulse.silent_s = pulse.asked.result(), 0.0
                pulse.asked = asyncio.ensure_future(_answer(pulse.handle))


async def _answer(handle: Any) -> Process:
    found: Process = await handle.sign_of_life.remote()
    return found


def kill(process: Process) -> None:
    """Kill a Ray worker process on any node."""
    if process.node == ray.get_runtime_context().get_node_id():
        _kill_worker(process.pid)
        return
    there = NodeAffinitySchedulingStrategy(process.node, soft=False)
    ray.remote(num_cpus=0, max_retries=0)(_kill_worker).options(scheduling_strategy=there).remote(process.pid)


def _kill_worker(pid: int) -> None:
    """Kill a process if it is a Ray worker: its number may belong to another process by now."""
    try:
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
            os.kill(pid, signal.SIGKILL)
    except OSError:
        return  # it has ended
