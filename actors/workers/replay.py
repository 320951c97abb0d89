"""ReplayActor: holds the trajectories of the replay store, and writes them and waiting trajectories to a checkpoint."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from uec.algorithm.replay import Entry, ReplayStore
from uec.config.schema import Config
from uec.system.journal import Journal
from uec.system.rollout_file import dump_rollouts, load_rollouts, parse_rollouts, save_rollouts
from uec.types import Kind, Logprobs, TrainingSample, Trajectory

STORE = "replay.safetensors"
LEFTOVER = "leftover.safetensors"
RNG = "replay_rng.json"
JOURNAL_RECORDS = 256
"""Records after which the journal starts again from the whole store, so that it stays small without checkpoints, too."""


class ReplayActor:
    """The only ReplayActor of a run."""

    def __init__(self, cfg: Config, journal: Path | None = None):
        """`journal`: file from which a replacement restores the store. With it, a step admits once, and repeated draws of a step agree."""
        self.cfg = cfg
        self.store = ReplayStore(cfg.replay_capacity(), cfg.run.seed)
        self._journal = None if journal is None else Journal(journal)
        self._admitted_at = 0  # last step that admitted
        self._drawn: tuple[int, Any] = (0, None)  # last step that drew, and the random state before

    def start(self, replaces: bool) -> None:
        """Begin a journal, or restore the state of the actor that this one replaces."""
        if self._journal is not None and replaces:
            for record in self._journal.read():
                self._apply(record)
        else:
            self._compact()

    def size(self) -> int:
        """Return the number of stored trajectories."""
        return len(self.store)

    def admit(
        self, step: int, samples: list[TrainingSample], old: list[tuple[int, int]], *data: list[Trajectory] | dict[int, Logprobs]
    ) -> int:
        """Store the samples' trajectories, in their order. Returns the store's size.

        `data`: the response batches, which `TrainingSample.batch` counts; after them, with `replay.logprobs: stored`, the old
        log-probabilities that LearnerActor.update returned on each rank. `old`: for each sample, the position in `data` of its rank's
        log-probabilities and the key there; empty if each replay computes them anew. A repeated call of a step stores nothing.
        """
        if self._journal is not None and step <= self._admitted_at:
            return len(self.store)
        if self.cfg.replay.logprobs == "stored" and len(old) != len(samples):
            raise ValueError(f"{len(samples)} admissions: replay.logprobs=stored needs the learner's old log-probabilities of each")
        entries = []
        for i, sample in enumerate(samples):
            trajectory = cast(list[Trajectory], data[sample.batch])[sample.slot]
            logprobs_T = None
            if self.cfg.replay.logprobs == "stored":
                position, key = old[i]
                logprobs_T = _over_all_tokens(trajectory, cast(dict[int, Logprobs], data[position])[key])
            entries.append(Entry(copied(trajectory, logprobs_T), sample.advantage, step))
        self._write({"admitted_at": step}, entries)
        self._admitted_at = step
        for entry in entries:
            self.store.add(entry)
        if self._journal is not None and self._journal.records > JOURNAL_RECORDS:
            self._compact()
        return len(self.store)

    def draw(self, step: int, n: int) -> tuple[list[TrainingSample], list[Trajectory]]:
        """Draw n stored responses, or all there are, for `num_returns=2`: samples for the Controller, trajectories for the learners."""
        if self._journal is not None and step == self._drawn[0]:
            self.store.rng.bit_generator.state = self._drawn[1]
        self._drawn = (step, self.store.rng_state())
        entries = self.store.draw(n, step, self.cfg.replay)
        self._write({"drawn": self._drawn, "rng": self.store.rng_state()})
        samples = [
            TrainingSample.of(entry.trajectory, slot, advantage=entry.advantage, admitted=entry.step) for slot, entry in enumerate(entries)
        ]
        return samples, [entry.trajectory for entry in entries]

    def save(self, folder: str, leftover: list[TrainingSample], *batches: list[Trajectory]) -> None:
        """Write the store, and the samples that wait for an update (`batch.accumulate`) with their trajectories.

        A leftover's `batch` is its position in `batches`. The Controller writes the folder atomically.
        """
        entries = list(self.store.entries)
        notes = [{"advantage": e.advantage, "step": e.step} for e in entries]
        save_rollouts(Path(folder) / STORE, [e.trajectory for e in entries], notes)
        (Path(folder) / RNG).write_text(json.dumps(self.store.rng_state()))
        waiting = [batches[sample.batch][sample.slot] for sample in leftover]
        # When the file is loaded, its trajectories form one response batch, so slots are positions in the file.
        rows = [asdict(sample.placed(None, slot)) for slot, sample in enumerate(leftover)]
        save_rollouts(Path(folder) / LEFTOVER, waiting, rows)
        self._compact()

    def load(self, folder: str) -> tuple[list[TrainingSample], list[Trajectory]]:
        """Read what `save` wrote, for `num_returns=2`: the leftover samples, and the one response batch of their trajectories.

        Their `batch` is None until the Controller sets the reference.
        """
        trajectories, notes = load_rollouts(Path(folder) / STORE)
        entries = [Entry(trajectory, **note) for trajectory, note in zip(trajectories, notes, strict=True)]
        self.store.load(entries, json.loads((Path(folder) / RNG).read_text()))
        self._compact()
        waiting, rows = load_rollouts(Path(folder) / LEFTOVER)
        leftover = [TrainingSample(**cast(dict[str, Any], {**row, "kind": Kind(row["kind"])})) for row in rows]
        return leftover, waiting

    def _write(self, state: dict[str, Any], entries: Iterable[Entry] = ()) -> None:
        if self._journal is not None:
            self._journal.append(_record(state, entries))

    def _compact(self) -> None:
        if self._journal is not None:
            state = {"admitted_at": self._admitted_at, "drawn": self._drawn, "rng": self.store.rng_state()}
            self._journal.restart(_record(state, self.store.entries))

    def _apply(self, record: bytes) -> None:
        state, _, rollouts = record.partition(b"\n")
        changed = json.loads(state)
        for trajectory, note in zip(*parse_rollouts(rollouts), strict=True):
            self.store.add(Entry(trajectory, **note))
        self._admitted_at = changed.get("admitted_at", self._admitted_at)
        if "rng" in changed:
            self._drawn = tuple(changed["drawn"])
            self.store.rng.bit_generator.state = changed["rng"]


def _record(state: dict[str, Any], entries: Iterable[Entry]) -> bytes:
    """Return a record of the journal: what changed, as a line of JSON, and the entries that came in."""
    entries = list(entries)
    notes = [{"advantage": entry.advantage, "step": entry.step} for entry in entries]
    return json.dumps(state).encode() + b"\n" + dump_rollouts([entry.trajectory for entry in entries], notes)


def _over_all_tokens(trajectory: Trajectory, generated_logprobs: Logprobs) -> Logprobs:
    """Spread old log-probabilities of generated tokens over [T]; observations get 0. Raises ValueError for another length."""
    generated = trajectory.generated_tokens
    if len(generated_logprobs) != generated:
        raise ValueError(f"{len(generated_logprobs)} old log-probabilities for {generated} tokens of prompt {trajectory.prompt}")
    if trajectory.generated is None:
        return generated_logprobs
    logprobs_T = np.zeros(len(trajectory.tokens), np.float32)
    logprobs_T[trajectory.generated] = generated_logprobs
    return logprobs_T


def copied(trajectory: Trajectory, old_logprobs: Logprobs | None) -> Trajectory:
    """Copy a trajectory's arrays: those of a response batch are views that keep all of it in the object store."""
    return replace(
        trajectory,
        prompt_tokens=np.array(trajectory.prompt_tokens),
        tokens=np.array(trajectory.tokens),
        logprobs=np.array(trajectory.logprobs),
        generated=None if trajectory.generated is None else np.array(trajectory.generated),
        old_logprobs=None if old_logprobs is None else np.array(old_logprobs),
    )
