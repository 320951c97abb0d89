"""The temperature t' at which a difficult prompt is explored."""

from uec.config import Exploration
from uec.types import Progress


def exploration_temperature(failures: int, progress: Progress, exploration: Exploration) -> float:
    """t' by `exploration.schedule`, between `temperature` and `temperature_end`.

    constant (paper): `temperature`. linear: over the run. failures: `temperature_step` for each earlier visit at which the prompt was
    difficult; `failures` counts this one, too. entropy: from `temperature` at the entropy of the first step, to the end at twice
    that: the brake on exploration where the policy is uncertain anyway.
    """
    begin, end = exploration.temperature, exploration.temperature_end
    if end is None or exploration.schedule == "constant":
        return begin
    if exploration.schedule == "linear":
        way = progress.done
    elif exploration.schedule == "failures":
        way = exploration.temperature_step * (failures - 1) / max(abs(end - begin), 1e-9)
    elif progress.entropy is None or not progress.first_entropy:
        way = 0.0
    else:
        way = progress.entropy / progress.first_entropy - 1
    return begin + (end - begin) * min(1.0, max(0.0, way))
