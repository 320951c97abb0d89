"""The program of a grading process: it loads the reward functions, then grades the responses that a pipe brings until it closes.

The protocol is described in uec/rewards/wire.py. To start quickly, it imports neither torch nor NumPy unless a reward function does.
"""

import ctypes
import faulthandler
import io
import json
import mmap
import os
import pickle
import resource
import signal
import sys
import time
from typing import Any, BinaryIO

from uec.environments.base import Environment
from uec.environments.single_turn import SingleTurn
from uec.errors import BadInput
from uec.rewards.reward_function import GradingError, RewardFunction, load_reward
from uec.rewards.wire import LENGTH, LONGEST_ERROR, POSITION, PROGRESS_BYTES, STARTED
from uec.system.user_code import describe_error

# Results that are made faster than this are sent together: one write for each response would cost more than its grading.
FLUSH_S = 0.002
PR_SET_PDEATHSIG = 1


def main(commands: int, results: int, progress: int, parent: int) -> None:
    """Serve until the command pipe closes. The arguments are three file descriptors and the parent's process id."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles Ctrl-C, and may still need these grades
    faulthandler.enable()
    # Output of a grader reaches the log at once, even if this process is killed.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    for descriptor in (commands, results, progress):
        os.set_inheritable(descriptor, False)  # otherwise, programs that a grader starts would keep the pipes open
    _die_with(parent)
    shared = mmap.mmap(progress, PROGRESS_BYTES)
    with os.fdopen(commands, "rb") as pipe:
        cfg = _next(pipe)
        if cfg is None:
            return
        _limit_memory(cfg.memory_mb)
        try:
            reward = load_reward(cfg)
        except BadInput as error:
            _send(results, ["failed", str(error)])
            return
        _send(results, ["ready"])
        while (batch := _next(pipe)) is not None:
            _grade(reward, batch, shared, results)
            os.ftruncate(2, 0)  # standard error is a file that only serves to tell how this process died


def _die_with(parent: int) -> None:
    """Have this process killed when the parent ends, even during a grading that never returns."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent was gone before the grading process began")


def _limit_memory(memory_mb: int | None) -> None:
    """Make allocations beyond the limit raise MemoryError. A crash leaves no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_mb is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))


def _next(pipe: BinaryIO) -> Any:
    """Return the next frame, or None at the end of the pipe."""
    head = pipe.read(LENGTH.size)
    return pickle.loads(pipe.read(LENGTH.unpack(head)[0])) if len(head) == LENGTH.size else None


def _grade(reward: RewardFunction, batch: list[tuple[str, str | list[str], dict[str, Any]]], shared: mmap.mmap, results: int) -> None:
    """Play an episode of one turn with each response of the batch, and send the reward parts."""
    environment: Environment = SingleTurn(reward)
    done: list[list[Any]] = []
    flushed = time.monotonic()
    process = os.getpid()
    for position, (response, answer, row) in enumerate(batch):
        now = time.monotonic()
        if now - flushed > FLUSH_S and done:
            _send(results, done)
            done, flushed = [], now
        # The time is written first, so that the parent never sees a position with an earlier start than its real one.
        STARTED.pack_into(shared, 8, now)
        POSITION.pack_into(shared, 0, position)
        try:
            environment.reset(answer, row, seed=0)  # a reward function draws no random numbers
            done.append([position, environment.step(response).parts, None])
        except GradingError as error:
            done.append([position, None, str(error)[:LONGEST_ERROR]])
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: a grader may call exit()
            done.append([position, None, _describe(reward, error)])
        if os.getpid() != process:
            os._exit(1)  # the grader forked, and this is the child, which returned
    _send(results, done)


def _describe(reward: RewardFunction, error: BaseException) -> str:
    """Return which function failed, how and where. It is the function whose file the traceback passes through."""
    files = set()
    trace = error.__traceback__
    while trace is not None:
        files.add(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    grader = next((grader for grader in reward.graders if grader.file in files), reward.graders[0])
    limit = "; reward.memory_mb limits it" if isinstance(error, MemoryError) else ""
    return f"{grader.name}: {describe_error(error, grader.file)}{limit}"[:LONGEST_ERROR]


def _send(results: int, message: list[Any]) -> None:
    """Write the message as one line of JSON."""
    line = json.dumps(message, allow_nan=False).encode() + b"\n"
    while line:
        line = line[os.write(results, line) :]
