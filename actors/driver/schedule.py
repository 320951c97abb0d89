"""The steps of evaluations and checkpoints."""

from uec.config.schema import Config


def is_due(step: int, every: int) -> bool:
    """Return whether `step` is a multiple of `every`; with 0, never."""
    return every > 0 and step % every == 0


def next_checkpoint(done: int, cfg: Config) -> int:
    """Return the step after which the next checkpoint is written. No later rollouts begin before, because a checkpoint holds none."""
    every, last = cfg.checkpoint.every, cfg.train.steps
    return min(last, (done // every + 1) * every) if every else last
