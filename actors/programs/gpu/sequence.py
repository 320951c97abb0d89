"""`uec doctor --gpu`: run the GPU checks one after the other, print their lines and write the JSON file.

A check that fails or exceeds its time is red, and the others still run with new actors.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from actors.programs.doctor import Listener
from actors.programs.gpu.checks import Checks, Step
from actors.programs.gpu.rig import Rig
from actors.programs.gpu.stage import Stage
from actors.programs.preflight import cluster
from uec.doctor.check import Status, fail
from uec.doctor.gpu import Measured, require_gpu, set_up, skipped, write
from uec.errors import BadInput, RunFailed
from uec.system.gpu_devices import gpu_devices

TOTAL_S = 560.0  # with one GPU; ten minutes together with the start of Python and Ray
MORE_S = 540.0  # for the checks of more GPUs
CLOSE_S = 30.0


class Closing(Protocol):
    """What ends the actors of a check that failed."""

    async def close(self) -> None: ...


def check_gpu(listener: Listener, file: Path | None, rig: Rig | None = None) -> bool:
    """Run every check; return whether none is red. Raises BadInput before anything starts. `rig`: a test's stand-in for a GPU."""
    if rig is None:
        require_gpu(file)
        rig = Rig()
    lines: list[Measured] = []

    def add(line: Measured) -> None:
        lines.append(line)
        listener.add(line.check)

    folder = Path(tempfile.mkdtemp(prefix="uec-doctor-gpu-"))
    found = gpu_devices()
    if rig.device == "cuda":
        add(set_up(found))
    try:
        _with_actors(rig, folder, listener, add)
    finally:
        passed = not any(line.check.status is Status.FAIL for line in lines)
        shutil.rmtree(folder if passed else folder / "model", ignore_errors=True)
        if file is not None:
            write(file, found, lines)
    return passed


def _with_actors(rig: Rig, folder: Path, listener: Listener, add: Callable[[Measured], None]) -> None:
    """Make the model, start Ray and run the checks that need actors."""
    deadline = time.monotonic() + rig.patience * (TOTAL_S + (MORE_S if rig.gpus > 1 else 0.0))
    listener.busy("making a random model")
    rig.make_model(folder)
    stage = Stage(rig, folder)
    listener.busy("starting Ray")
    with cluster(stage.config(), "uec-doctor-gpu"):
        asyncio.run(run_steps(Checks(stage).steps(), rig.gpus, stage, deadline, folder / "logs", listener, add))


async def run_steps(
    steps: Sequence[Step], gpus: int, stage: Closing, deadline: float, logs: Path, listener: Listener, add: Callable[[Measured], None]
) -> None:
    """Run the checks and pass each line on. `deadline`: of all checks together, by `time.monotonic`."""
    # Calls that wait for an actor fail when a failed check's actors end; nobody awaits them any more.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    try:
        for step in steps:
            if step.gpus > gpus:
                for name in step.names:
                    add(skipped(name, f"needs {step.gpus} GPUs, this machine has {gpus}"))
                continue
            listener.busy(f"checking {', '.join(step.names)}")
            begin = time.monotonic()
            lines = await _lines(step, min(step.limit_s, deadline - begin), logs)
            seconds = time.monotonic() - begin
            if any(line.check.status is Status.FAIL for line in lines):
                await _close(stage)
            for line in lines:
                add(replace(line, seconds=seconds))
    finally:
        await _close(stage)


async def _lines(step: Step, limit_s: float, logs: Path) -> list[Measured]:
    """Return a check's lines; red ones where it raises or is late."""
    name, *others = step.names
    whole = f"the actors' logs: {logs}"
    if limit_s <= 0:
        red = fail(name, "did not run: the checks before it took all the time", "run the command again when the machine has less to do")
    else:
        try:
            async with asyncio.timeout(limit_s):
                return await step.run()
        except TimeoutError:
            red = fail(name, f"did not finish within {limit_s:.0f} s", f"an actor hangs, or the machine is overloaded; {whole}")
        except (BadInput, RunFailed) as error:
            red = fail(name, str(error), whole)
        except Exception as error:
            red = fail(name, f"the check itself failed: {type(error).__name__}: {error}", whole)
    return [Measured(red), *(Measured(fail(other, f"did not run: {name} failed", whole)) for other in others)]


async def _close(stage: Closing) -> None:
    """End the actors; one that does not end must not stop the next check."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await stage.close()
    except Exception:  # the next check starts other actors, and says what is wrong if it cannot
        return
