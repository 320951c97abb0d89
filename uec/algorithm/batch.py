"""The buffer between the trajectories that a step keeps and those that an update trains on."""

from collections import deque
from collections.abc import Iterable

from uec.config.schema import Config
from uec.types import TrainingSample


class BatchBuffer:
    """The kept trajectories that wait for an update, oldest first.

    With `batch.accumulate: false` an update takes all of them. With `true` (released code of 2604.14646) an update takes the oldest
    B G once there are so many. At most 2 B G wait; beyond that the oldest are dropped. Trajectories that wait were sampled by earlier
    versions of the weights.
    """

    def __init__(self, cfg: Config):
        self.accumulate = cfg.batch.accumulate
        self.size = cfg.train.prompts_per_step * cfg.rollout.n
        self.lost = 0  # dropped by the last `add`
        self.waiting: deque[TrainingSample] = deque(maxlen=2 * self.size if self.accumulate else None)

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, kept: Iterable[TrainingSample]) -> int:
        """Queue the trajectories that a step kept. Returns how many of the oldest were dropped."""
        before = len(self.waiting)
        new = list(kept)
        self.waiting.extend(new)
        self.lost = before + len(new) - len(self.waiting)
        return self.lost

    def metrics(self) -> dict[str, float]:
        """Return the `retain/` metrics of the buffer; call this between `add` and `take`. Empty without `batch.accumulate`."""
        return {"retain/lost": float(self.lost), "retain/waiting": float(len(self.waiting))} if self.accumulate else {}

    def take(self) -> list[TrainingSample]:
        """Return the next update's trajectories; if there are none, skip the update."""
        if not self.accumulate:
            count = len(self.waiting)
        else:
            count = self.size if len(self.waiting) >= self.size else 0
        return [self.waiting.popleft() for _ in range(count)]

    def leftover(self) -> list[TrainingSample]:
        """Return the waiting trajectories, oldest first, for a checkpoint; `add` on an empty buffer restores them."""
        return list(self.waiting)
