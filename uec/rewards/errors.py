"""When so many gradings of a step fail that going on would train on noise."""

from collections.abc import Sequence

from uec.config import Reward
from uec.errors import RunFailed
from uec.types import Score


def refuse_errors(scores: Sequence[Score], reward: Reward, expected: int = 0) -> None:
    """Raise RunFailed, naming the first error, if more than `reward.max_error_frac` of a step's gradings failed.

    `expected`: gradings that the step will have at the end. With it a step under way can be checked: it is refused as
    soon as what is still to come cannot save it.
    """
    errors = [score for score in scores if score.error is not None]
    total = max(len(scores), expected)
    if len(errors) <= reward.max_error_frac * total:
        return
    late = sum(score.timed_out for score in errors)
    raise RunFailed(
        f"{len(errors)} of {total} gradings of a step failed ({late} of them by timeout), more than "
        f"reward.max_error_frac={reward.max_error_frac:g} allows. The first: {errors[0].error}\n"
        "Mend the reward function, or raise reward.timeout_s or reward.max_error_frac."
    )
