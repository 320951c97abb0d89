"""Inject one fault into a running session, and wait until the run has kept its promise. Raises BrokenPromise if it does not."""

import time
from pathlib import Path

import numpy as np

from bench.chaos.damage import flipped
from bench.chaos.faults import Fault, Promise
from bench.chaos.session import POLL_S, BrokenPromise, Session, events, last_line, last_step
from bench.chaos.victims import SHARED_MEMORY, kill, stop
from uec.run_folder import RunFolder

RECOVERY_S = 180.0
"""Longest time from a fault to the next step, the watchdog's silence included."""
SURVIVES_S = 30.0
"""Time after which a run that makes steps counts as having survived the death of Ray's processes."""
END_S = 180.0
STEPS_AFTER = 2
"""Steps that a run has to make after a fault."""


def survive(session: Session, run: Path, fault: Fault, choice: float) -> float:
    """Inject a fault that the run survives; return the seconds until it goes on. `choice` in [0, 1): which of several processes."""
    before, begin, first = last_step(run), time.monotonic(), time.time()
    victim = session.one_of(fault.target, choice)
    (stop if fault.action == "stop" else kill)(victim)
    if fault.promise is Promise.GOES_BACK:
        session.wait(lambda: _acted(run, first, fault.actor, "going back"), RECOVERY_S, f"no return to the checkpoint for {fault}")
        session.wait(lambda: last_step(run) > before, RECOVERY_S, "the lost steps were not repeated")
        return time.monotonic() - begin
    if fault.promise is Promise.REPLACED:
        session.wait(lambda: _acted(run, first, fault.actor, "replaced"), RECOVERY_S, f"nothing replaced {victim.pid}, {fault}")
    back = last_step(run)
    session.wait(lambda: last_step(run) >= back + STEPS_AFTER, RECOVERY_S, f"no step followed after {fault}")
    return time.monotonic() - begin


def end(session: Session, run: Path, fault: Fault, choice: float, rng: np.random.Generator) -> float:
    """Inject a fault that ends the run, or may end it; return the seconds until its end, or until it goes on."""
    begin, before = time.monotonic(), last_step(run)
    match fault.action:
        case "flip":
            _flip_weights(session, choice, rng)
        case "terminate":
            session.one_of("driver", choice).terminate()
        case _:
            kill(session.one_of(fault.target, choice))
    if fault.promise is Promise.GOES_ON_OR_ENDS and survives(session, run, before):
        seconds = time.monotonic() - begin
        session.one_of("driver", choice).terminate()
        check_status(session, 143)
        return seconds
    match fault.promise:
        case Promise.KILLED:
            check_status(session, -9)
        case Promise.SIGNALLED:
            check_status(session, 143)
            check_said(session, "run.resume=auto")
            if f"step_{last_step(run):06d}" != (RunFolder(run).latest_checkpoint() or run).name:
                raise BrokenPromise(f"no checkpoint of the last step, {last_step(run)}")
        case Promise.ENDS:
            check_status(session, 1)
            check_said(session, "run.resume=auto")
        case _:
            check_status(session, 1)
            if not session.said.strip():
                raise BrokenPromise("the run ended without a word")
    return time.monotonic() - begin


def file_number(run: Path) -> int:
    """Return the inode of metrics.jsonl, which changes when a run resumes or goes back; 0 without the file."""
    path = run / "metrics.jsonl"
    return path.stat().st_ino if path.exists() else 0


def _acted(run: Path, since: float, actor: str, action: str) -> bool:
    """Return whether events.jsonl reports an action on an actor."""
    return any(str(one.get("actor", "")).startswith(actor) and action in one.get("action", "") for one in events(run, since))


def survives(session: Session, run: Path, before: int) -> bool:
    """Return whether the run goes on making steps; False if it ended. Raises BrokenPromise if it does neither."""
    begin = time.monotonic()
    while session.alive:
        session.victims.look()
        passed = time.monotonic() - begin
        if passed > SURVIVES_S and last_step(run) >= before + STEPS_AFTER:
            return True
        if passed > RECOVERY_S:
            raise BrokenPromise(f"the run neither went on nor ended within {RECOVERY_S:.0f} s")
        time.sleep(POLL_S)
    return False


def check_status(session: Session, due: int, seconds: float = END_S) -> None:
    """Wait for the end of a run. Raises BrokenPromise unless its exit status is `due`."""
    status = session.end(seconds)
    if status != due:
        raise BrokenPromise(f"exit status {status}, promised is {due}: {last_line(session.said)}")


def check_said(session: Session, *words: str) -> None:
    """Raise BrokenPromise unless the run said one of these words."""
    if not any(word in session.said for word in words):
        raise BrokenPromise(f"the run said none of {words}: {last_line(session.said)}")


def _flip_weights(session: Session, choice: float, rng: np.random.Generator) -> None:
    """Flip a bit in the file of the current weights, and kill an engine, whose replacement reads them."""
    session.victims.look()
    found = [file for folder in session.victims.shared if folder.is_dir() for file in folder.glob("*.bin") if file.stat().st_size]
    if not found:
        raise BrokenPromise(f"there is no weight update in {SHARED_MEMORY}")
    for file in found:
        flipped(file, rng)
    kill(session.one_of("engine", choice))
