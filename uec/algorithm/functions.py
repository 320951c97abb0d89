"""Check the functions that `advantage.estimator` and `loss.policy` name, before a run starts."""

from uec.algorithm.advantage import load_estimator
from uec.config.schema import Config
from uec.config.validate_algorithm import POLICY_LOSSES
from uec.errors import BadInput


def check_functions(cfg: Config) -> None:
    """Import the user's estimator and policy loss. Raises BadInput with one line per problem."""
    problems = []
    try:
        load_estimator(cfg.advantage.estimator)
    except BadInput as error:
        problems.append(str(error))
    if cfg.loss.policy not in POLICY_LOSSES:
        from uec.algorithm.losses.policy import load_policy_loss  # imports torch, which takes seconds and is not needed for a built-in name

        try:
            load_policy_loss(cfg.loss.policy)
        except BadInput as error:
            problems.append(str(error))
    if problems:
        raise BadInput("\n".join(problems))
