"""The order in which prompts are drawn: epoch by epoch, and exactly resumable."""

import copy
from typing import Any

import numpy as np

from uec.errors import BadInput


class PromptOrder:
    """An endless iteration over prompts 0 .. n-1; each epoch contains every prompt once.

    An epoch's order depends only on the seed and the epoch, so the state is a few numbers and no permutation.
    """

    def __init__(self, n: int, seed: int, shuffle: bool, digest: str = "") -> None:
        """`digest`: of the prompts (`digest` of uec/data/dataset.py), so that a checkpoint of other prompts is refused; "" checks none."""
        self._n = n
        self._digest = digest
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = 0
        self._cursor = 0
        self._permutation = self._permute()

    def take(self, count: int) -> list[int]:
        """Return the next prompts, across epochs: a prompt occurs twice only around the end of an epoch or if count > n."""
        taken: list[int] = []
        while len(taken) < count:
            if self._cursor == self._n:
                self._epoch += 1
                self._cursor = 0
                self._permutation = self._permute()
            piece = self._permutation[self._cursor : self._cursor + count - len(taken)]
            taken += piece
            self._cursor += len(piece)
        return taken

    def peek(self, count: int) -> list[int]:
        """Return what `take` will return, without advancing."""
        return copy.copy(self).take(count)  # shallow, because a permutation is replaced and never changed

    def state(self) -> dict[str, Any]:
        """Return the state, as JSON types, for `load`."""
        return {
            "prompts": self._n,
            "digest": self._digest,
            "seed": self._seed,
            "shuffle": self._shuffle,
            "epoch": self._epoch,
            "cursor": self._cursor,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state` with its seed. Raises BadInput if it was saved with other prompts."""
        self.check(state)
        self._seed, self._shuffle = state["seed"], state["shuffle"]
        self._epoch, self._cursor = state["epoch"], state["cursor"]
        self._permutation = self._permute()

    def check(self, state: dict[str, Any]) -> None:
        """Raise BadInput if `state` was saved with other prompts. Checkpoints of earlier versions have only their number."""
        if state["prompts"] != self._n:
            raise BadInput(
                f"data.train: the checkpoint was made with {state['prompts']} training prompts, now there are {self._n}; "
                "resume with the same data, template and data.max_prompt_tokens, or start a new run"
            )
        if state.get("digest") and self._digest and state["digest"] != self._digest:
            raise BadInput(
                f"data.train: the checkpoint was made with other training prompts or answers than these {self._n}; "
                "resume with the same data, template and system message, or start a new run from the checkpoint's hf/ folder"
            )

    def _permute(self) -> list[int]:
        if not self._shuffle:
            return list(range(self._n))
        return np.random.default_rng([self._seed, self._epoch]).permutation(self._n).tolist()
