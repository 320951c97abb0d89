"""Sampling a prompt's responses in rounds, so that none is spent on a prompt that has enough."""

from uec.types import Group


def round_sizes(n: int, rounds: int) -> list[int]:
    """n responses in up to `rounds` rounds of like size, the larger ones first; no empty round."""
    return [size for size in (n // rounds + (k < n % rounds) for k in range(rounds)) if size]


def enough(group: Group, until: str, solved_at: float) -> bool:
    """`right`: at least one response is right. `balanced`: half a round's worth of right and of wrong ones (Reinforce-Ada, 2510.04996).

    The group's own `request.n` is that of a round as long as one asks before they are joined: see `joined`.
    """
    right = group.right(solved_at)
    if until == "right":
        return right > 0
    half = group.request.n // 2
    return right >= half and len(group.trajectories) - right >= half


def joined(first: Group, later: Group) -> Group:
    """Two rounds as one group. `request` stays the first round's, n included: it tells a round's size."""
    return Group(first.request, [*first.trajectories, *later.trajectories])
