"""References to the features of images, by prompt; engines and learners receive these instead of images.

An image is processed when it is first needed, or earlier by `prefetch` (the next step's images, while this step generates). Its features
are kept for about STEPS_KEPT steps, within SHARE of the object store, so that nothing spills to disk. The features themselves never come
to this process.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray

from actors.runtime.slots import ActorSlot
from actors.runtime.supervisor import Supervisor
from uec.errors import RunFailed
from uec.types import Prompt

AT_ONCE = 8
"""Prompts per call; few, so that the first features are ready early."""

STEPS_KEPT = 8
"""Steps whose prompts' features are kept: this step, the next, and earlier ones from which replay may draw."""


SHARE = 0.75
"""Share of a node's object store that the features may take."""

TOKEN_BYTES = 20_000.0
"""Bytes per image token until the first features are known; Qwen's are 18,800 in float32."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The requested features of a prompt."""

    features: Any  # reference
    done: Any  # reference to the bytes per image token, or to the error, once the call has ended
    worker: ActorSlot
    handle: Any  # of the worker that was asked


class ImageCache:
    """Holds the references by prompt. It is empty in a run without images."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._tokens: dict[int, int] = {}  # image tokens of each prompt with images
        self._token_bytes = TOKEN_BYTES
        self._budget: float | None = None
        self._asked: OrderedDict[int, _Asked] = OrderedDict()  # least recently used first
        self._calls = 0

    def hold(self, prompts: Iterable[Prompt]) -> None:
        """Record which prompts have images."""
        self._tokens = {prompt.index: sum(end - begin for begin, end in prompt.spans) for prompt in prompts if prompt.images}

    def prefetch(self, prompts: Iterable[int]) -> None:
        """Request the features of these prompts' images, unless they are already requested, as far as they fit beside the others."""
        wanted = [prompt for prompt in dict.fromkeys(prompts) if prompt in self._tokens and prompt not in self._asked]
        room = self.budget - self.bytes
        for place, prompt in enumerate(wanted):
            room -= self._tokens[prompt] * self._token_bytes
            if room < 0:
                wanted = wanted[:place]
                break
        self._request(wanted)

    @property
    def bytes(self) -> float:
        """Return the bytes of all features that are held or requested."""
        return self._token_bytes * sum(self._tokens[prompt] for prompt in self._asked)

    @property
    def budget(self) -> float:
        """Return the bytes that features may take: SHARE of the smallest node's object store."""
        if self._budget is None:
            self._budget = SHARE * min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"])
        return self._budget

    def _request(self, prompts: list[int]) -> None:
        missing = [prompt for prompt in prompts if prompt not in self._asked]
        for begin in range(0, len(missing), AT_ONCE):
            self._ask(missing[begin : begin + AT_ONCE])

    def is_ready(self, prompt: int) -> bool:
        """Return whether a prompt's features are there, or it has no images."""
        asked = self._asked.get(prompt)
        return prompt not in self._tokens or (asked is not None and bool(ray.wait([asked.done], timeout=0, fetch_local=False)[0]))

    async def references(self, prompts: Iterable[int]) -> list[Any]:
        """Await references to the features of these prompts' images, one for each prompt that has images.

        Raises RunFailed, naming the prompt, where an image cannot be processed.
        """
        wanted = [prompt for prompt in dict.fromkeys(prompts) if prompt in self._tokens]
        self._request(wanted)
        for prompt in wanted:
            self._asked.move_to_end(prompt)
        asked = [self._asked[prompt] for prompt in wanted]  # entries may be dropped while they are awaited
        found = [await self._finished(prompt, one) for prompt, one in zip(wanted, asked, strict=True)]
        self._drop(set(wanted))
        return found

    def _drop(self, wanted: set[int]) -> None:
        """Drop the oldest entries beyond STEPS_KEPT steps or the budget, except the wanted ones.

        Keep those that are still processed: they were requested and would be processed twice.
        """
        surplus = len(self._asked) - max(STEPS_KEPT * self.supervisor.cfg.train.prompts_per_step, len(wanted))
        excess = self.bytes - self.budget
        for place, prompt in enumerate(list(self._asked)):
            if place >= surplus and excess <= 0:
                break
            if prompt not in wanted and self.is_ready(prompt):
                del self._asked[prompt]
                excess -= self._tokens[prompt] * self._token_bytes

    async def _finished(self, prompt: int, asked: _Asked) -> Any:
        while True:
            try:
                self._token_bytes = await asked.done
                return asked.features
            except ray.exceptions.RayActorError as error:
                await self.supervisor.revive(asked.worker, asked.handle, error)
                self._asked = OrderedDict((key, kept) for key, kept in self._asked.items() if kept.handle is not asked.handle)
                self._request([prompt])
                asked = self._asked[prompt]
            except ray.exceptions.RayError as error:
                raise RunFailed(self.supervisor.account(asked.worker, error)) from error

    def _ask(self, prompts: list[int]) -> None:
        worker = self.supervisor.image_workers[self._calls % len(self.supervisor.image_workers)]
        self._calls += 1
        handle: Any = worker.handle
        done, *features = handle.process.options(num_returns=1 + len(prompts)).remote(prompts)
        for prompt, reference in zip(prompts, features, strict=True):
            self._asked[prompt] = _Asked(reference, done, worker, handle)
