"""When a step of the run is due: evaluation, checkpoint, and how far rollouts may begin ahead of one."""

from uec.config.schema import Config


def is_due(step: int, every: int) -> bool:
    """Every so many steps; 0: never."""
    return every > 0 and step % every == 0


def next_checkpoint(done: int, cfg: Config) -> int:
    """The step after which the next one is written. It holds no rollouts that wait to be learned from: none are begun beyond it."""
    every, last = cfg.checkpoint.every, cfg.train.steps
    return min(last, (done // every + 1) * every) if every else last
