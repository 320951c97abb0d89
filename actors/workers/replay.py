"""ReplayActor: holds the tokens of the replay store, and writes to the checkpoint what lives in the object store."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np

from uec.algorithm.replay import Entry, ReplayStore
from uec.config.schema import Config
from uec.system.rollout_file import load_rollouts, save_rollouts
from uec.types import Admission, Kind, Logprobs, Replayed, Rollout, Score, Trajectory

STORE = "replay.safetensors"
LEFTOVER = "leftover.safetensors"
RNG = "replay_rng.json"


class ReplayActor:
    """One in a run."""

    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.store = ReplayStore(cfg.replay_capacity(), cfg.run.seed)

    def size(self) -> int:
        return len(self.store)

    def admit(self, step: int, admitted: list[Admission], *data: list[Rollout] | dict[int, Logprobs]) -> int:
        """Store the responses that `admitted` points at, in its order. Returns the store's size.

        `data` are the bundles and, with `replay.logprobs: stored`, the dicts of old log-probabilities that
        LearnerActor.update returned on each rank; an Admission tells by position which it means.
        """
        for item in admitted:
            rollout = cast(list[Rollout], data[item.bundle])[item.slot]
            old = None
            if self.cfg.replay.logprobs == "stored":
                if item.logprobs is None:
                    raise ValueError(f"admission of slot {item.slot}: replay.logprobs=stored needs the learner's old log-probabilities")
                old = cast(dict[int, Logprobs], data[item.logprobs])[item.sample]
                if len(old) != len(rollout.tokens):
                    raise ValueError(f"admission of slot {item.slot}: {len(old)} old log-probabilities for {len(rollout.tokens)} tokens")
            self.store.add(Entry(copied(rollout, old), item.advantage, step))
        return len(self.store)

    def draw(self, step: int, n: int) -> tuple[list[Replayed], list[Rollout]]:
        """n stored responses or all there are, for `num_returns=2`: records for the Controller, rollouts for the learners."""
        entries = self.store.draw(n, step, self.cfg.replay)
        records = [
            Replayed(
                slot=slot,
                advantage=entry.advantage,
                prompt=entry.rollout.prompt,
                kind=entry.rollout.kind,
                group=entry.rollout.group,
                index=entry.rollout.index,
                age=step - entry.step,
                prompt_tokens=len(entry.rollout.prompt_tokens),
                response_tokens=len(entry.rollout.tokens),
            )
            for slot, entry in enumerate(entries)
        ]
        return records, [entry.rollout for entry in entries]

    def save(self, folder: str, leftover: list[Trajectory], *bundles: list[Rollout]) -> None:
        """Write the store, and the trajectories that wait for an update (`batch.accumulate`) with their tokens.

        A leftover's `bundle` is its position in `bundles`. The Controller writes the folder atomically.
        """
        entries = list(self.store.entries)
        notes = [{"advantage": e.advantage, "step": e.step} for e in entries]
        save_rollouts(Path(folder) / STORE, [e.rollout for e in entries], notes)
        (Path(folder) / RNG).write_text(json.dumps(self.store.rng_state()))
        waiting = [bundles[t.bundle][t.score.slot] for t in leftover]
        # A slot counts in the bundle, and the file becomes the bundle.
        rows = [replace(t, bundle=None, scores=None, score=replace(t.score, slot=slot)) for slot, t in enumerate(leftover)]
        save_rollouts(Path(folder) / LEFTOVER, waiting, [asdict(row) for row in rows])

    def load(self, folder: str) -> tuple[list[Trajectory], list[Rollout]]:
        """Read what `save` wrote, for `num_returns=2`: the leftover trajectories, and the one bundle of their rollouts.

        Their slots are those of that bundle; their `bundle` is None until the Controller sets the reference.
        """
        rollouts, notes = load_rollouts(Path(folder) / STORE)
        entries = [Entry(rollout, **note) for rollout, note in zip(rollouts, notes, strict=True)]
        self.store.load(entries, json.loads((Path(folder) / RNG).read_text()))
        waiting, rows = load_rollouts(Path(folder) / LEFTOVER)
        leftover = []
        for row in rows:
            score = Score(**row.pop("score"))
            leftover.append(Trajectory(**{**row, "kind": Kind(row["kind"]), "score": score}))
        return leftover, waiting


def copied(rollout: Rollout, old_logprobs: Logprobs | None) -> Rollout:
    """The rollout on arrays of its own: those of a bundle are views that keep all of it in the object store."""
    return replace(
        rollout,
        prompt_tokens=np.array(rollout.prompt_tokens),
        tokens=np.array(rollout.tokens),
        logprobs=np.array(rollout.logprobs),
        old_logprobs=None if old_logprobs is None else np.array(old_logprobs),
    )
