"""A user's policy loss and advantage estimator, from a file: they work, and each mistake is reported with its field."""

import numpy as np
import pytest
import torch

from tests.support.token_batches import by_ratio
from uec.algorithm.advantage import load_estimator
from uec.algorithm.functions import check_functions
from uec.algorithm.losses.objective import StepSize, objective
from uec.algorithm.losses.policy import METRICS, load_policy_loss
from uec.config.schema import LossConfig
from uec.errors import BadInput, RunFailed
from uec.models.metric_sums import TOKEN_MEANS

LOSSES = """
def good(batch, settings):
    ratio_N = batch.log_ratio_N().exp()
    return -ratio_N * batch.advantages_N, {"ratio_mean": ratio_N.detach().sum()}

def mean(batch, settings):
    return good(batch, settings)[0].mean(), {}

def bare(batch, settings):
    return good(batch, settings)[0]

def chatty(batch, settings):
    return good(batch, settings)[0], {"my_value": 1.0}

def narrow(batch):
    return batch

async def later(batch, settings):
    return batch

number = 3
"""

ESTIMATORS = """
import numpy as np

def best(rewards):
    return [r - r.max() for r in rewards]

def short(rewards):
    return [r[:-1] for r in rewards]

def fewer(rewards):
    return [r for r in rewards][1:]

def broken(rewards):
    return [r / 0 * 0 for r in rewards]

def nothing(rewards):
    return None

def two(rewards, more):
    return rewards
"""


@pytest.fixture
def losses(tmp_path) -> str:
    (tmp_path / "my_losses.py").write_text(LOSSES)
    return str(tmp_path / "my_losses.py")


@pytest.fixture
def estimators(tmp_path) -> str:
    (tmp_path / "my_advantages.py").write_text(ESTIMATORS)
    return str(tmp_path / "my_advantages.py")


def test_a_policy_loss_from_a_file_trains_like_a_built_in_one(losses: str) -> None:
    batch = by_ratio([1.5, 0.5], [1.0, -1.0])
    loss, metrics = objective(batch, load_policy_loss(f"{losses}:good"), LossConfig(), StepSize(2, 2, 4))
    assert loss.item() == pytest.approx((-1.5 + 0.5) / 2) and metrics["ratio_mean"].item() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("mean", r"returned a loss of shape \[\] for 2 tokens; it has to be one number a token"),
        ("bare", "returned Tensor, not"),
        ("chatty", "returned my_value, which is no metric; it may return ratio_mean"),
    ],
)
def test_what_a_policy_loss_returns_is_checked(losses: str, function: str, said: str) -> None:
    policy_loss = load_policy_loss(f"{losses}:{function}")
    with pytest.raises(RunFailed, match=said) as caught:
        policy_loss(by_ratio([1.5, 0.5], [1.0, -1.0]), LossConfig())
    assert str(caught.value).startswith("loss.policy=")


def test_the_sums_that_a_policy_loss_may_return_become_metrics() -> None:
    assert set(METRICS) <= set(TOKEN_MEANS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ppo_clp", "did you mean ppo_clip?"),
        ("gspo2", "did you mean gspo?"),
        ("zzz", "is none of ppo_clip, gspo, cispo, clip_cov, kl_cov, path/to/file.py:name or package.module:name"),
        ("{file}:god", "has no function god; it has "),
        ("{file}:narrow", "too many positional arguments); it must be def narrow(batch: TokenBatch, settings: LossConfig)"),
        ("{file}:later", "is async or yields; it must return its result"),
        ("{file}:number", "is int, not a function"),
        ("{file}x.py:good", "there is no file "),
        ("no_such_package.losses:good", "there is no module no_such_package"),
    ],
)
def test_a_policy_loss_that_cannot_be_loaded_is_reported_with_its_field(losses: str, make_config, name: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_policy_loss(name.format(file=losses))
    assert str(caught.value).startswith("loss.policy: ") and said in str(caught.value)
    with pytest.raises(BadInput) as caught:  # and before anything starts
        check_functions(make_config(f"loss.policy={name.format(file=losses)}"))
    assert said in str(caught.value)


def test_an_estimator_from_a_file_gives_the_advantages(estimators: str) -> None:
    found = load_estimator(f"{estimators}:best")([np.array([0.0, 1.0]), np.array([0.5, 0.2, 0.5])])
    assert [a.tolist() for a in found] == [[-1.0, 0.0], [0.0, -0.3, 0.0]]


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("short", r"returned shapes \[\(1,\)\], expected those of the rewards, \[\(2,\)\]"),
        ("fewer", r"returned shapes \[\], expected"),
        ("broken", "returned an advantage that is not a finite number"),
        ("nothing", "returned NoneType, not a list of arrays"),
    ],
)
def test_what_an_estimator_returns_is_checked(estimators: str, function: str, said: str) -> None:
    with pytest.raises(RunFailed, match=said) as caught:
        load_estimator(f"{estimators}:{function}")([np.array([0.0, 1.0])])
    assert str(caught.value).startswith("advantage.estimator=")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("centerd", "did you mean centred?"),
        ("{file}:absent", "has no function absent; it has best, short"),
        ("{file}:two", "cannot be called (missing a required argument: 'more'); it must be def two(rewards: list[array])"),
    ],
)
def test_an_estimator_that_cannot_be_loaded_is_reported_with_its_field(estimators: str, make_config, name: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_estimator(name.format(file=estimators))
    assert str(caught.value).startswith("advantage.estimator: ") and said in str(caught.value)
    with pytest.raises(BadInput, match="advantage.estimator"):
        check_functions(make_config(f"advantage.estimator={name.format(file=estimators)}"))


def test_a_step_without_groups_has_no_advantages() -> None:
    for name in ("group", "centred", "rloo", "batch", "batch_with_baseline"):
        assert load_estimator(name)([]) == []


def test_a_function_by_its_module_is_found_in_the_working_folder(tmp_path, monkeypatch) -> None:
    (tmp_path / "some_losses_of_mine.py").write_text(LOSSES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    loss_N, _ = load_policy_loss("some_losses_of_mine:good")(by_ratio([1.5], [1.0]), LossConfig())
    assert torch.allclose(loss_N, torch.tensor([-1.5], dtype=torch.float64))
