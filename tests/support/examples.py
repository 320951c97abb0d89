"""Small made-up trajectories, samples and groups for the tests of the algorithm."""

import numpy as np

from uec.types import Kind, TrainingSample, Trajectory


def sample(
    reward: float,
    *,
    kind: Kind = Kind.REGULAR,
    accuracy: float | None = None,
    truncated: bool = False,
    advantage: float = 0.0,
    slot: int = 0,
    batch: object = None,
) -> TrainingSample:
    return TrainingSample(
        prompt=0,
        slot=slot,
        prompt_tokens=3,
        response_tokens=5,
        kind=kind,
        index=slot,
        reward=reward,
        accuracy=reward if accuracy is None else accuracy,
        parts={"accuracy": reward},
        truncated=truncated,
        version=1,
        advantage=advantage,
        batch=batch,
    )


def group(rewards: list[float], kind: Kind = Kind.REGULAR, truncated: list[bool] | None = None) -> list[TrainingSample]:
    flags = truncated or [False] * len(rewards)
    return [sample(r, kind=kind, truncated=t, slot=i) for i, (r, t) in enumerate(zip(rewards, flags, strict=True))]


def trajectory(index: int, length: int = 4, kind: Kind = Kind.REGULAR, temperature: float = 1.0) -> Trajectory:
    """Return a trajectory whose tokens and log-probabilities depend on `index`, so that a test detects rows in the wrong order."""
    rng = np.random.default_rng(index)
    return Trajectory(
        group=index // 8,
        index=index % 8,
        prompt=index,
        kind=kind,
        temperature=temperature,
        prompt_tokens=rng.integers(0, 100, 3 + index % 3, dtype=np.int32),
        tokens=rng.integers(0, 100, length, dtype=np.int32),
        logprobs=-rng.random(length, dtype=np.float32),
        truncated=index % 2 == 1,
        versions=(index + 1,),
    )
