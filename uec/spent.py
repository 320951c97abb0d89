"""What a run's rollouts have cost so far: seconds, each counted once, and what each engine did with them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineUse:
    """Of one engine."""

    seconds: float  # it had something to do, evaluation included
    tokens: int  # response tokens that it made meanwhile

    @property
    def tokens_per_s(self) -> float | None:
        """None where it had nothing to do."""
        return self.tokens / self.seconds if self.seconds and self.tokens else None

    def __sub__(self, earlier: "EngineUse") -> "EngineUse":
        return EngineUse(self.seconds - earlier.seconds, self.tokens - earlier.tokens)


@dataclass(frozen=True, slots=True)
class Spent:
    """Up to a moment; the difference of two is what lies between them. `generate`, `explore` and `reward` never overlap."""

    clock: float  # of `time.perf_counter`; in a difference: how long it was
    generate: float  # a message with a regular request was at an engine
    explore: float  # only exploration was at the engines
    reward: float  # nothing was at the engines, and gradings were waited for
    busy: float  # an engine had something to do, evaluation included
    engines: tuple[EngineUse, ...]

    def __sub__(self, earlier: "Spent") -> "Spent":
        return Spent(
            self.clock - earlier.clock,
            self.generate - earlier.generate,
            self.explore - earlier.explore,
            self.reward - earlier.reward,
            self.busy - earlier.busy,
            tuple(now - then for now, then in zip(self.engines, earlier.engines, strict=True)),
        )
