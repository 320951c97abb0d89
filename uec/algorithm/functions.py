"""The functions that `advantage.estimator` and `loss.policy` name, checked before a run starts."""

from uec.algorithm.advantage import load_estimator
from uec.config.schema import Config
from uec.config.validate_algorithm import POLICY_LOSSES
from uec.errors import BadInput


def check_functions(cfg: Config) -> None:
    """Import the user's own estimator and policy loss. BadInput holds every problem found, one a line."""
    problems = []
    try:
        load_estimator(cfg.advantage.estimator)
    except BadInput as error:
        problems.append(str(error))
    if cfg.loss.policy not in POLICY_LOSSES:
        from uec.algorithm.losses.policy import load_policy_loss  # imports torch, which a built-in name need not wait for

        try:
            load_policy_loss(cfg.loss.policy)
        except BadInput as error:
            problems.append(str(error))
    if problems:
        raise BadInput("\n".join(problems))
