"""In which order prompts are taken: epoch by epoch, and exactly resumable."""

import copy
from typing import Any

import numpy as np

from uec.errors import BadInput


class PromptOrder:
    """Walks over prompts 0 .. n-1 without end; each epoch holds every prompt once.

    An epoch's order depends on the seed and the epoch alone, so the state is a few numbers and no permutation.
    """

    def __init__(self, n: int, seed: int, shuffle: bool) -> None:
        self._n = n
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = 0
        self._cursor = 0
        self._permutation = self._permute()

    def take(self, count: int) -> list[int]:
        """The next prompts; goes on into the next epoch, so a prompt comes twice only around an epoch's end or if count > n."""
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
        """What `take` will return, without taking it."""
        return copy.copy(self).take(count)  # a permutation is never changed, only replaced

    def state(self) -> dict[str, Any]:
        """JSON-able; `load` of it goes on with the same prompts."""
        return {"prompts": self._n, "seed": self._seed, "shuffle": self._shuffle, "epoch": self._epoch, "cursor": self._cursor}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`, with its seed. Raises BadInput if it was taken over another number of prompts."""
        if state["prompts"] != self._n:
            raise BadInput(
                f"data.train: the checkpoint was made with {state['prompts']} training prompts, now there are {self._n}; "
                "resume with the same data, template and data.max_prompt_tokens, or start a new run"
            )
        self._seed, self._shuffle = state["seed"], state["shuffle"]
        self._epoch, self._cursor = state["epoch"], state["cursor"]
        self._permutation = self._permute()

    def _permute(self) -> list[int]:
        if not self._shuffle:
            return list(range(self._n))
        return np.random.default_rng([self._seed, self._epoch]).permutation(self._n).tolist()
