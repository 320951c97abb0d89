"""DAPO's soft overlong punishment (2503.14476, equation 13)."""


def overlong_punishment(length: int, longest: int, share: float | None) -> float:
    """What a response of `length` tokens loses: 0 up to (1 - share) longest, then linear, -1 at `longest`. No share: 0.

    The paper's -1 beyond the longest cannot happen here: a response is cut off at `rollout.max_tokens`, and then has that length.
    """
    if share is None:
        return 0.0
    buffer = share * longest
    return min(0.0, (longest - buffer - length) / buffer)
