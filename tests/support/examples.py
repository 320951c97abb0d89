"""Small made-up rollouts, trajectories and groups for the tests of the algorithm."""

import numpy as np

from uec.types import Group, Kind, Request, Rollout, Score, Trajectory


def trajectory(
    reward: float,
    *,
    kind: Kind = Kind.REGULAR,
    accuracy: float | None = None,
    truncated: bool = False,
    advantage: float = 0.0,
    slot: int = 0,
    bundle: object = None,
) -> Trajectory:
    score = Score(
        group=0,
        index=slot,
        slot=slot,
        reward=reward,
        accuracy=reward if accuracy is None else accuracy,
        parts={"accuracy": reward},
        error=None,
        timed_out=False,
        prompt_tokens=3,
        response_tokens=5,
        truncated=truncated,
        version=1,
    )
    return Trajectory(prompt=0, kind=kind, temperature=1.0, score=score, bundle=bundle, advantage=advantage)


def group(rewards: list[float], kind: Kind = Kind.REGULAR, truncated: list[bool] | None = None) -> Group:
    flags = truncated or [False] * len(rewards)
    made = [trajectory(r, kind=kind, truncated=t, slot=i) for i, (r, t) in enumerate(zip(rewards, flags, strict=True))]
    return Group(Request(group=0, prompt=0, n=len(rewards), temperature=1.0, kind=kind), made)


def rollout(index: int, length: int = 4, kind: Kind = Kind.REGULAR, temperature: float = 1.0) -> Rollout:
    """Tokens and log-probabilities that depend on `index`, so that mixed-up rows are seen."""
    rng = np.random.default_rng(index)
    return Rollout(
        group=index // 8,
        index=index % 8,
        prompt=index,
        kind=kind,
        temperature=temperature,
        prompt_tokens=rng.integers(0, 100, 3 + index % 3, dtype=np.int32),
        tokens=rng.integers(0, 100, length, dtype=np.int32),
        logprobs=-rng.random(length, dtype=np.float32),
        truncated=index % 2 == 1,
        version=index + 1,
    )
