"""From what a step kept to what an update trains on."""

from collections import deque
from collections.abc import Iterable

from uec.config.schema import Config
from uec.types import TrainingSample


class BatchBuffer:
    """The kept trajectories that wait for an update, oldest first.

    `batch.accumulate: false`: an update takes everything there is. `true` (released code of 2604.14646): an update
    takes B G, the oldest, once they are there; at most 2 B G wait, and the oldest are lost beyond that. What waits comes
    from earlier versions of the weights.
    """

    def __init__(self, cfg: Config):
        self.accumulate = cfg.batch.accumulate
        self.size = cfg.train.prompts_per_step * cfg.rollout.n
        self.lost = 0  # to the limit, at the last `add`
        self.waiting: deque[TrainingSample] = deque(maxlen=2 * self.size if self.accumulate else None)

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, kept: Iterable[TrainingSample]) -> int:
        """Queue what a step kept. Returns how many of the oldest were lost to the limit."""
        before = len(self.waiting)
        new = list(kept)
        self.waiting.extend(new)
        self.lost = before + len(new) - len(self.waiting)
        return self.lost

    def metrics(self) -> dict[str, float]:
        """After `add`, before `take`; nothing where nothing waits from step to step."""
        return {"retain/lost": float(self.lost), "retain/waiting": float(len(self.waiting))} if self.accumulate else {}

    def take(self) -> list[TrainingSample]:
        """The next update's trajectories; none: skip the update."""
        if not self.accumulate:
            count = len(self.waiting)
        else:
            count = self.size if len(self.waiting) >= self.size else 0
        return [self.waiting.popleft() for _ in range(count)]

    def leftover(self) -> list[TrainingSample]:
        """What waits, oldest first: the state that a checkpoint holds, and that `add` on an empty buffer restores."""
        return list(self.waiting)
