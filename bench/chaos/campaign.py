"""The campaign: one run that is started again and again and disturbed each time, then its books, then damaged copies of a finished run."""

import math
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bench.chaos import books, fill, injection
from bench.chaos.damage import damage_checkpoint, tear_tail
from bench.chaos.faults import CHECKPOINT, DISK, IMAGE, LIGHT, SHARED_MEMORY, TAIL, Fault, Promise, Start, plan
from bench.chaos.result import Outcome, Report
from bench.chaos.session import BrokenPromise, Scratch, Session, last_line, last_step
from bench.task import TEXT, VISION
from uec.run_folder import RunFolder, step_of

START_S = 240.0
END_STEPS = 4
"""Undisturbed steps at the end of the disturbed run."""
LIGHT_A_MINUTE, DAMAGES_A_MINUTE = 1.4, 1.0
TRAINING_SHARE = 0.6
"""Share of the time for faults in running training; the rest is for the reference run and the damaged checkpoints."""
MINUTES_A_START = 0.8
"""Time that a start of the run and what ends it take on two cores, so that a short campaign has fewer."""
FOREVER = 1_000_000

SETTINGS = (
    "cluster.cpus=4", "rollout.engines=2", "reward.workers=2", "train.prompts_per_step=8", "eval.prompts=64", "checkpoint.every=4",
    "exploration.n=8", "replay.every=2", "replay.min_rows=8", "replay.rows=32", "supervise.max_restarts=100", "supervise.timeout_s=15",
)  # fmt: skip
"""Of the disturbed run and of the undisturbed one: small steps, and as many restarts as the campaign needs."""
SLOW = f"reward.fn={Path(__file__).with_name('slow_reward.py')}:score"
"""Of the disturbed run alone: the same rewards, later."""


class Campaign:
    """The state of a campaign: its runs, the time that it has, and what happened so far."""

    def __init__(self, seed: int, minutes: float, scratch: Scratch) -> None:
        self.rng = np.random.default_rng([seed, 1])
        self.seed = seed
        self.seconds = 60 * minutes
        self.minutes = minutes
        self.begin = time.monotonic()
        self.scratch = scratch
        self.run = scratch.folder / "runs" / "disturbed"
        self.report = Report(seed)
        self._told: Callable[[str, float], None] = lambda what, share: None

    def go(self, told: Callable[[str, float], None]) -> None:
        """Run everything; `report` then says which promises were broken.

        `told`: called with what happens now, and the share of the time that has passed.
        """
        self._told = told
        endings = max(2, int(TRAINING_SHARE * self.minutes / MINUTES_A_START))
        starts = plan(self.seed, math.ceil(LIGHT_A_MINUTE * self.minutes), endings)
        for number, start in enumerate(starts):
            share = TRAINING_SHARE * (number + 1) / len(starts)
            self._start(start, until=self.begin + share * self.seconds)
        steps = self._finish()
        reference = self._reference(steps)
        if reference is not None:
            self.report.books += [*books.evaluations(self.run, reference)]
            if self._left_s > 150:
                self._fill(DISK, reference)
            if self._left_s > 150:
                self._fill(SHARED_MEMORY, reference)
            self._damage(reference, math.ceil(DAMAGES_A_MINUTE * self.minutes))
        if self._left_s > 120:
            self._images()
        self.report.seconds = time.monotonic() - self.begin

    @property
    def _left_s(self) -> float:
        return self.begin + self.seconds - time.monotonic()

    def _tell(self, what: str) -> None:
        self._told(what, (time.monotonic() - self.begin) / self.seconds)

    def _note(self, fault: Fault, inject: Callable[[], float]) -> bool:
        """Inject a fault and record what came of it; returns whether the promise was kept."""
        self._tell(str(fault))
        try:
            outcome = Outcome(str(fault), fault.promise.value, True, round(inject(), 1))
        except BrokenPromise as broken:
            outcome = Outcome(str(fault), fault.promise.value, False, None, str(broken))
        self.report.outcomes.append(outcome)
        return outcome.kept

    def _session(self, run: Path, *overrides: str, config: Path = TEXT, sandbox: tuple[str, ...] = ()) -> Session:
        """Start a run, or resume it if it has been started before."""
        saved = run / "config.yaml"
        if saved.exists():
            return Session(self.scratch, saved, "run.resume=auto", *overrides, sandbox=sandbox)
        where = (f"run.dir={run.parent}", f"run.name={run.name}")
        return Session(self.scratch, config, *where, *SETTINGS, *overrides, sandbox=sandbox)

    def _start(self, start: Start, until: float) -> None:
        """Start the disturbed run once, and inject the faults of this start until the time or the run is over."""
        self._tell("starting the run")
        before, old = _resumes_at(self.run), injection.file_number(self.run)
        session = self._session(self.run, f"train.steps={FOREVER}", f"rollout.backend={start.engine}", f"learner.ranks={start.ranks}", SLOW)
        try:
            # A resumed run first replaces the file, because it may hold steps after the checkpoint.
            session.wait(lambda: injection.file_number(self.run) != old and last_step(self.run) > before, START_S, "no first step")
            for fault, pause, choice in zip(start.faults, start.moments, start.choices, strict=True):
                if fault in LIGHT and time.monotonic() > until:
                    continue
                if fault is TAIL:
                    if not self._note(fault, self._tear_and_resume):
                        return
                    continue
                time.sleep(pause)
                if not self._inject(session, fault, choice):
                    return
        except BrokenPromise as broken:
            self.report.books.append(f"start of the run: {broken}")
        finally:
            session.clear()

    def _inject(self, session: Session, fault: Fault, choice: float) -> bool:
        """Inject one fault into the disturbed run; returns whether the promise was kept."""
        if fault in LIGHT or fault.promise is Promise.GOES_BACK:
            return self._note(fault, lambda: injection.survive(session, self.run, fault, choice))

        def end() -> float:
            seconds = injection.end(session, self.run, fault, choice, self.rng)
            _nothing_remains(session)
            return seconds

        return self._note(fault, end)

    def _tear_and_resume(self) -> float:
        """Damage the end of metrics.jsonl; the run has to resume and make a step."""
        begin, before = time.monotonic(), _resumes_at(self.run)
        tear_tail(self.run / "metrics.jsonl", self.rng)
        session = self._session(self.run, f"train.steps={before + 1}")
        try:
            injection.check_status(session, 0)
            _nothing_remains(session)
        finally:
            session.clear()
        return time.monotonic() - begin

    def _finish(self) -> int:
        """Run the disturbed run to its end and check its books; returns its steps."""
        self._tell("the disturbed run to its end")
        steps = _resumes_at(self.run) + END_STEPS
        self._to_the_end(self.run, steps)
        return steps

    def _to_the_end(self, run: Path, steps: int, config: Path = TEXT, *overrides: str) -> bool:
        session = self._session(run, f"train.steps={steps}", *overrides, config=config)
        try:
            injection.check_status(session, 0, seconds=START_S + 3 * steps)
            _nothing_remains(session)
        except BrokenPromise as broken:
            self.report.books.append(f"{run.relative_to(self.scratch.folder)}: {broken}")
            return False
        finally:
            session.clear()
        self.report.books += [f"{run.relative_to(self.scratch.folder)}: {breach}" for breach in books.breaches(run)]
        return True

    def _reference(self, steps: int) -> Path | None:
        """Run the same number of steps undisturbed; return its folder."""
        self._tell("the same run undisturbed")
        run = self.run.with_name("undisturbed")
        return run if self._to_the_end(run, steps) else None

    def _fill(self, fault: Fault, reference: Path) -> None:
        """Continue a copy of the undisturbed run in a small file system, and fill that at a random moment."""
        place = self.scratch.folder / f"filled-{fault.target.rpartition('/')[2].replace(' ', '-')}"
        if not fill.can_mount():
            self.report.notes.append(f"{fault} was left out: this user may not mount a file system")
            return
        run, kept = _copy(reference, place), place / "kept" / reference.name
        kept.parent.mkdir()
        steps = _resumes_at(run)

        def inject() -> float:
            session = self._session(run, f"train.steps={FOREVER}", sandbox=fill.sandbox(fault, run, kept))
            try:
                seconds = fill.until_full(session, run, fault, steps, self.rng)
                _nothing_remains(session)
            finally:
                session.clear()
            if not self._to_the_end(kept, _resumes_at(kept) + 1):
                raise BrokenPromise("the run did not resume after there was room again")
            return seconds

        self._note(fault, inject)

    def _damage(self, reference: Path, count: int) -> None:
        """Damage a file of a checkpoint in copies of the undisturbed run; each has to take the checkpoint before, or name the file."""
        offset = int(self.rng.integers(1_000))
        for number in range(count):
            if self._left_s < 60:
                return
            run = _copy(reference, self.scratch.folder / "damaged")
            checkpoint = RunFolder(run).latest_checkpoint()
            assert checkpoint is not None
            path, way = damage_checkpoint(checkpoint, offset + number, self.rng)
            fault = Fault("damage", f"{path.relative_to(checkpoint)}, {way}", CHECKPOINT.promise)
            self._note(fault, partial(self._resume_damaged, run, path))

    def _resume_damaged(self, run: Path, damaged: Path) -> float:
        begin, steps = time.monotonic(), _resumes_at(run)
        checkpoints = sorted(path.name for path in (run / "checkpoints").glob("step_*"))
        session = self._session(run, f"train.steps={steps}")
        try:
            status = session.end(START_S)
        finally:
            session.clear()
        if broken := breaks_fallback(status, session.said, damaged, checkpoints):
            raise BrokenPromise(f"{damaged.relative_to(run)}: {broken}")
        return time.monotonic() - begin

    def _images(self) -> None:
        """Kill an image worker in a short run with images."""
        run = self.run.with_name("images")
        session = self._session(run, f"train.steps={FOREVER}", config=VISION)
        try:
            session.wait(lambda: last_step(run) >= 0, START_S, "no evaluation before the first step")
            if self._note(IMAGE, lambda: injection.survive(session, run, IMAGE, float(self.rng.random()))):
                session.one_of("driver", 0.0).terminate()
                injection.check_status(session, 143)
                _nothing_remains(session)
                self.report.books += [f"images: {breach}" for breach in books.breaches(run)]
        except BrokenPromise as broken:
            self.report.books.append(f"images: {broken}")
        finally:
            session.clear()


def breaks_fallback(status: int, said: str, damaged: Path, checkpoints: list[str]) -> str:
    """Return how a resume broke the promise about a damaged file of the newest checkpoint; "" if it kept it.

    `checkpoints`: names, oldest first. Damage of files.json shows as damage of a file that it lists.
    """
    newest = checkpoints[-1]
    named = newest in said if damaged.name == "files.json" else f"{newest}/" in said and damaged.name in said
    if named and (status == 2 or (status == 0 and len(checkpoints) > 1 and checkpoints[-2] in said)):
        return ""
    return f"status {status}, " + ("taken without a word" if status == 0 and not named else last_line(said))


def _nothing_remains(session: Session) -> None:
    """Raise BrokenPromise if a process or a file of the run is left after its end."""
    if found := session.victims.remains(session.scratch.temporary):
        raise BrokenPromise(f"left behind: {', '.join(found[:5])}")


def _resumes_at(run: Path) -> int:
    """Return the step of the newest checkpoint; 0 without one."""
    checkpoint = RunFolder(run).latest_checkpoint()
    return step_of(checkpoint) if checkpoint else 0


def _copy(run: Path, place: Path) -> Path:
    """Copy a run into a folder, in place of what is there; the run's folder keeps its name, by which it is resumed."""
    shutil.rmtree(place, ignore_errors=True)
    return Path(shutil.copytree(run, place / run.name))
