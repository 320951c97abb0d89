"""The contract of an inference engine: the methods that a RolloutActor calls, in the project's types only.

Log-probabilities are in nats, over the tokens that `Sampling.vocabulary` and `Sampling.never` allow. Images come as `ImageFeatures` by
prompt; an engine for text models may refuse them. Every method may raise RunFailed, which names the engine and the cause.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol

from uec.config.schema import Config
from uec.types import Completion, Continuation, ImageFeatures, Logprobs, Prompt, Request, Sampling, WeightUpdate

SleepPart = Literal["weights", "kv_cache"]
"""A part of an engine's memory that sleeps and wakes."""


class Engine(Protocol):
    """An engine in the process of a RolloutActor. The coroutines run in the actor's event loop and must not block it.

    Several calls of `generate` and `logprobs` run at once; of any other method, only one.
    """

    def __init__(self, cfg: Config, rank: int, name: str) -> None:
        """Keep the arguments. `rank`: 0 .. rollout.engines-1; `name`: the actor's, for messages."""
        ...

    @staticmethod
    def environment(cfg: Config) -> dict[str, str]:
        """Return environment variables that the process needs before it starts. The driver calls this; it may have no GPU."""
        ...

    async def start(self, prompts: list[Prompt], sampling: Sampling) -> dict[str, float]:
        """Load the initial model as version 0; return the seconds of each stage. `prompts`: all that requests will name by index."""
        ...

    def generate(self, requests: Sequence[Request], images: Mapping[int, ImageFeatures]) -> AsyncIterator[list[Completion]]:
        """Yield each request's n completions, in any order, as soon as they finish.

        A request continues `prompt.tokens + request.behind` at its temperature. Closing the iterator aborts what is pending.
        """
        ...

    async def logprobs(self, continuations: Sequence[Continuation], images: Mapping[int, ImageFeatures]) -> list[Logprobs]:
        """Return log-probabilities at T = 1 of each continuation's tokens, [T], computed from the current weights without a cache.

        Raises ValueError for a sequence that is longer than the engine's context.
        """
        ...

    def check_weights(self, update: WeightUpdate) -> None:
        """Raise RunFailed, with the cause, if the update must not be loaded. Runs in a thread and leaves the engine alone."""
        ...

    async def load_weights(self, update: WeightUpdate) -> None:
        """Load a checked update, drop every cache of earlier weights and label what is sampled from now on with its version.

        Nothing is running, or the engine is paused. After an error here the engine is not used again.
        """
        ...

    async def checksum(self) -> str:
        """Return a digest of all weights that the engine holds, equal for equal weights in engines of one config; "" if it cannot."""
        ...

    async def pause(self) -> None:
        """Pause after the current decode step; running requests keep their state, new ones queue."""
        ...

    async def resume(self) -> None:
        """Continue after `pause`."""
        ...

    async def sleep(self) -> None:
        """Free the accelerator's memory until `wake`, as `rollout.sleep` says; an engine that cannot does nothing. Nothing is running."""
        ...

    async def wake(self, part: SleepPart) -> None:
        """Allocate a part again after `sleep`: first the weights, then the KV cache. With rollout.sleep=2, `load_weights` comes between."""
        ...

    async def state(self) -> list[str]:
        """Return the random state, JSON-able, so that a resumed run samples what this one would have sampled."""
        ...

    async def load(self, state: list[str]) -> None:
        """Restore what `state` returned. Nothing is running."""
        ...

    async def stop(self) -> None:
        """End the engine and its processes."""
        ...
