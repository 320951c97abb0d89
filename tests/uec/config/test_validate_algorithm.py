"""Incompatible parts of an algorithm: one message each, with both fields and the fix."""

from itertools import product
from pathlib import Path

import pytest

from uec.algorithm.functions import check_functions
from uec.commands.cli import main
from uec.config.validate import validate
from uec.config.validate_algorithm import POLICY_LOSSES
from uec.errors import BadInput


def message_of(make_config, *overrides: str) -> str:
    with pytest.raises(BadInput) as caught:
        validate(cfg := make_config(*overrides))
        check_functions(cfg)
    return str(caught.value)


SHARE = "must be a share of the run, above 0 and at most 1, or auto"

CONFLICTS = [
    # exploration
    (["exploration.until=0"], ["exploration.until=0", SHARE]),
    (["exploration.until=1.5"], ["exploration.until=1.5", SHARE]),
    (["exploration.until=-0.5"], ["exploration.until=-0.5", SHARE]),
    (["exploration.until=soon"], ["exploration.until='soon'", SHARE]),
    (["exploration.until=true"], ["exploration.until=True", SHARE]),
    (["exploration.until=null"], ["exploration.until=None", SHARE]),
    (["exploration.until=nan"], ["exploration.until='nan'", SHARE]),
    (
        ["algorithm=grpo", "exploration.correction=tempered"],
        ["exploration.correction=tempered", "exploration.enabled=false", "set exploration.correction=none"],
    ),
    (
        ["algorithm=grpo", "exploration.correction=truncated-is"],
        ["exploration.correction=truncated-is", "exploration.enabled=false", "enable exploration"],
    ),
    (["exploration.schedule=linear"], ["exploration.schedule=linear", "set exploration.temperature_end"]),
    (
        ["exploration.temperature_end=1.1"],
        ["exploration.temperature_end=1.1", "exploration.schedule=constant", "choose linear, failures or entropy"],
    ),
    (
        ["exploration.schedule=linear", "exploration.temperature_end=0.9"],
        ["exploration.temperature_end=0.9 is below rollout.temperature=1", "raise it"],
    ),
    (["exploration.rounds=17"], ["exploration.rounds=17 is more than exploration.n=16", "lower it"]),
    (
        ["exploration.rounds=16", "advantage.estimator=rloo"],
        ["exploration.rounds=16", "exploration.n=16", "advantage.estimator=rloo has no baseline", "exploration.group=joint"],
    ),
    (["exploration.rounds=16"], ["exploration.rounds=16", "advantage.estimator=group has no baseline", "lower the rounds"]),
    (["exploration.threshold=0.5"], ["exploration.threshold=0.5", "exploration.keep=positive", "set exploration.keep=informative"]),
    # sampling
    (
        ["dynamic_sampling.enabled=true", "retention.min_abs_advantage=null"],
        ["dynamic_sampling.enabled=true", "retention.min_abs_advantage=null", "set min_abs_advantage to 0"],
    ),
    (
        ["algorithm=dapo", "dynamic_sampling.max_prompts=1.01"],
        ["dynamic_sampling.max_prompts=1.01", "train.prompts_per_step=32", "raise it"],
    ),
    (["retention.subset=9"], ["retention.subset=9", "rollout.n x rollout.rounds = 8", "lower it"]),
    (["algorithm=reinforce_ada", "retention.subset=33"], ["retention.subset=33", "rollout.n x rollout.rounds = 32"]),
    (["rollout.until=balanced"], ["rollout.until=balanced", "rollout.rounds=1", "raise rounds"]),
    # the loss
    (["algorithm=gspo", "loss.clip_low=0.2"], ["loss.policy=gspo", "loss.clip_low=0.2", "loss.clip_high=0.0004", "3e-4 and 4e-4"]),
    (["algorithm=gspo", "loss.clip_high=0.28"], ["loss.policy=gspo", "loss.clip_high=0.28", "at most 0.05"]),
    (["algorithm=gspo", "loss.dual_clip=3"], ["loss.policy=gspo", "loss.dual_clip=3", "set loss.dual_clip=null"]),
    (["algorithm=cispo", "loss.dual_clip=3"], ["loss.policy=cispo", "loss.dual_clip=3", "set loss.dual_clip=null"]),
    (["algorithm=kl_cov", "loss.dual_clip=3"], ["loss.policy=kl_cov", "loss.dual_clip=3", "set loss.dual_clip=null"]),
    (["algorithm=clip_cov", "loss.cov_range=null"], ["loss.policy=clip_cov", "loss.cov_range", "set e.g. [1.0, 5.0]"]),
    (["algorithm=kl_cov", "loss.cov_range=[1, 5]"], ["loss.policy=kl_cov", "loss.cov_range=[1.0, 5.0]", "set it to null"]),
    (["algorithm=clip_cov", "loss.cov_range=[5, 1]"], ["loss.cov_range=[5.0, 1.0]", "two numbers, the lower first"]),
    (["algorithm=clip_cov", "loss.cov_range=[1]"], ["loss.cov_range=[1.0]", "two numbers, the lower first"]),
    (["loss.kl_in=reward"], ["loss.kl_in=reward", "loss.kl_coef=0", "raise loss.kl_coef"]),
    (["loss.kl_estimator=k1", "loss.kl_coef=0.01"], ["loss.kl_estimator=k1", "loss.kl_in=loss", "take k2 or k3"]),
    # replay
    (["replay.max_age=3", "replay.every=5"], ["replay.max_age=3", "replay.every=5", "raise max_age to 4"]),
    # names
    (["advantage.estimator=rlo"], ["advantage.estimator: 'rlo'", "did you mean rloo?"]),
    (["advantage.estimator=nowhere.py:mine"], ["advantage.estimator: nowhere.py:mine", "there is no file"]),
    (["loss.policy=ppo_clp"], ["loss.policy: 'ppo_clp'", "did you mean ppo_clip?"]),
    (["loss.policy=nowhere.py:mine"], ["loss.policy: nowhere.py:mine", "there is no file"]),
]


@pytest.mark.parametrize(("overrides", "fragments"), CONFLICTS, ids=[" ".join(overrides) for overrides, _ in CONFLICTS])
def test_incompatible_parts_are_reported_in_one_line(make_config, overrides: list[str], fragments: list[str]) -> None:
    message = message_of(make_config, *overrides)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message, message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # G = 1 gives no group baseline, and is out of range for every estimator
        ("rollout.n=1", "rollout.n=1 must be at least 2"),
        ("exploration.n=1", "exploration.n=1 must be at least 2"),
        # replay without capacity: impossible, because null means 2 B G
        ("replay.capacity=0", "replay.capacity=0 must be at least 1"),
        ("replay.every=0", "replay.every=0 must be at least 1"),
        # dynamic sampling without a bound
        ("dynamic_sampling.max_prompts=.inf", "dynamic_sampling.max_prompts=inf is not a finite number"),
        ("dynamic_sampling.max_prompts=1", "dynamic_sampling.max_prompts=1.0 must be above 1"),
        ("dynamic_sampling.max_prompts=null", "command line: dynamic_sampling.max_prompts must be a number, got null"),
        # thresholds of the wrong sign
        ("exploration.threshold=-1", "exploration.threshold=-1.0 must be at least 0"),
        ("replay.min_advantage=-1", "replay.min_advantage=-1.0 must be at least 0"),
        ("retention.min_abs_advantage=-0.05", "retention.min_abs_advantage=-0.05 must be at least 0"),
        ("difficulty.max_solve_rate=-0.1", "difficulty.max_solve_rate=-0.1 must be at least 0 and below 1"),
        ("loss.clip_low=-0.2", "loss.clip_low=-0.2 must be above 0 and at most 1"),
        # A KL coefficient without a reference model is impossible: the reference is the initial model, and the learners load it if
        # loss.kl_coef is above 0. The opposite case, a KL in the reward with coefficient 0, is a conflict above.
        ("loss.kl_coef=-1", "loss.kl_coef=-1.0 must be at least 0"),
    ],
)
def test_an_impossible_value_of_one_field_is_out_of_its_range(make_config, override: str, message: str) -> None:
    assert message_of(make_config, override) == message


@pytest.mark.parametrize("estimator", ["group", "rloo"])
def test_a_group_of_one_response_is_reported_once_for_every_estimator(make_config, estimator: str) -> None:
    assert message_of(make_config, "rollout.n=1", f"advantage.estimator={estimator}") == "rollout.n=1 must be at least 2"


def test_every_problem_of_an_algorithm_is_reported_at_once(make_config) -> None:
    message = message_of(make_config, "algorithm=grpo", "loss.policy=gspo", "rollout.until=balanced")
    assert [line.split()[0] for line in message.splitlines()] == ["rollout.until=balanced", "loss.policy=gspo", "loss.policy=gspo"]


def test_a_bad_combination_ends_the_command_with_status_2(project: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("actors.programs.preflight.connect", lambda *_: pytest.fail("a cluster was asked for"))
    overrides = ["algorithm=gspo", "loss.clip_low=0.2", f"run.dir={tmp_path / 'runs'}"]
    status = main(["train", "configs/llm.yaml", *overrides])
    message = capsys.readouterr().err
    assert status == 2
    assert message.startswith("uec: ") and "loss.policy=gspo with loss.clip_low=0.2" in message and "Traceback" not in message
    assert not (tmp_path / "runs").exists()


# --- valid combinations


DAPO = ["dynamic_sampling.enabled=true", "reward.overlong_share=0.2", "loss.clip_high=0.28"]


@pytest.mark.parametrize(
    "overrides",
    [
        [*DAPO],  # with the exploration and replay of algorithm=uec
        [*DAPO, "exploration.rounds=4", "exploration.group=joint", "exploration.correction=tempered", "replay.logprobs=recomputed"],
        ["algorithm=dapo", "exploration.enabled=true", "replay.enabled=true"],
        ["algorithm=gspo", "exploration.enabled=true", "replay.enabled=true", "replay.source=exploration"],
        ["algorithm=reinforce_ada", "dynamic_sampling.enabled=true"],
        ["algorithm=rloo", "exploration.enabled=true", "exploration.rounds=16", "exploration.group=joint"],
        ["advantage.estimator=batch", "exploration.rounds=16"],  # it has a baseline for a single response
        ["exploration.n=3", "exploration.rounds=2"],  # rounds of 2 and 1: the first one has two responses
        ["exploration.n=20", "exploration.rounds=20", "exploration.group=joint"],
        ["exploration.until=auto"],
        ["exploration.until=0.5"],
        ["exploration.until=1"],
        ["exploration.schedule=failures", "exploration.temperature_end=1.4"],
        ["exploration.schedule=entropy", "exploration.temperature_end=1.0"],  # ends at the temperature of regular rollouts
        ["exploration.keep=informative", "exploration.threshold=0.5"],
        ["algorithm=grpo", "exploration.threshold=0.5"],  # exploration is off anyway
        ["algorithm=kl_cov", "loss.kl_coef=0.01", "loss.entropy_coef=0.01", "loss.mismatch_cap=2"],
        ["algorithm=reinforce_pp", "advantage.estimator=batch_with_baseline"],
        ["loss.kl_coef=0.01", "loss.kl_in=reward", "loss.kl_estimator=k1"],
        ["replay.max_age=4", "replay.every=5"],  # of the five steps before an update the first is 4 steps old
        ["replay.max_age=1", "replay.every=1"],
        ["algorithm=grpo", "replay.max_age=1"],
        ["dynamic_sampling.max_prompts=1.01"],  # off
    ],
    ids=" ".join,
)
def test_compatible_parts_are_accepted(make_config, overrides: list[str]) -> None:
    assert validate(make_config(*overrides)) is None  # raises if the config is invalid


ESTIMATORS = ["group", "centred", "rloo", "batch", "batch_with_baseline"]
AGGREGATIONS = ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]


@pytest.mark.parametrize("algorithm", ["uec", "dapo", "gspo", "cispo", "clip_cov", "kl_cov", "entropy_advantage"])
def test_every_estimator_is_valid_with_every_aggregation_and_loss(make_config, algorithm: str) -> None:
    cfg = make_config(f"algorithm={algorithm}")
    for cfg.advantage.estimator, cfg.loss.aggregation in product(ESTIMATORS, AGGREGATIONS):
        assert validate(cfg) is None


def test_the_names_of_the_losses_equal_those_of_the_code() -> None:
    from uec.algorithm.losses.policy import BUILTIN

    assert tuple(BUILTIN) == POLICY_LOSSES


def test_a_users_loss_and_estimator_are_accepted(make_config, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def estimate(rewards):\n    return rewards\n\n\ndef loss(batch, settings):\n    return batch.logprobs_N, {}\n")
    assert validate(make_config(f"advantage.estimator={mine}:estimate", f"loss.policy={mine}:loss")) is None
    message = message_of(make_config, f"advantage.estimator={mine}:loss", f"loss.policy={mine}:estimate")
    assert [line.split(":")[0] for line in message.splitlines()] == ["advantage.estimator", "loss.policy"]
    assert "it must be def loss(rewards" in message and "it must be def estimate(batch" in message
