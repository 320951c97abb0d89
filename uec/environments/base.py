"""The environment contract: how a task answers the model's responses and which reward parts it gives.

This package imports no other package of the project. Reward functions and tasks build on it, and the process that runs an
environment (uec/rewards/worker.py) can be killed at any time.
"""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Step:
    """The answer of an environment to one response."""

    observation: str | None  # what the model reads before its next response; None if it reads nothing
    parts: dict[str, float]  # reward parts in [0, 1]; a part of a later step replaces the same part of an earlier one
    done: bool  # the episode is over


class Environment(Protocol):
    """A task of one or more turns. One instance plays one episode at a time.

    The arguments are columns of the data and a seed, not a tokenised prompt and a NumPy generator: environments run in
    processes that import neither NumPy nor torch, so that a process that was killed is replaced in a tenth of a second.
    """

    def reset(self, answer: str | list[str], row: dict[str, Any], seed: int) -> str | None:
        """Begin an episode and return the first observation, which follows the prompt, or None if the prompt says everything.

        `answer` and `row` are the prompt's reference answer and other data columns, as a reward function gets them. Equal
        arguments begin equal episodes. Any exception fails this episode only.
        """
        ...

    def step(self, response: str) -> Step:
        """Take the model's next response and return the answer to it. Any exception fails this episode only.

        It is not called before `reset`, nor again after a step that is done.
        """
        ...
