"""The `entropy/` metrics: sums by kind and outcome, and the metrics from them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uec.models.metric_sums import BELOW, ENTROPY_NAMES, entropy_metrics, entropy_sums


def sums(entropies: list[float], exploration: list[bool], right: list[bool]) -> dict[str, float]:
    flags = (torch.tensor(values, dtype=torch.bool) for values in (exploration, right))
    return {name: float(value) for name, value in entropy_sums(torch.tensor(entropies, dtype=torch.float64), *flags).items()}


FOUR = sums([0.005, 0.2, 1.0, 5.0], [False, False, True, True], [True, False, False, True])


def test_sums_of_four_tokens_by_kind_and_outcome() -> None:
    # regular .005 + .2, exploration 1 + 5, right .005 + 5, wrong .2 + 1
    assert FOUR["entropy"] == pytest.approx(6.205)
    slices = {"regular": 0.205, "exploration": 6.0, "right": 5.005, "wrong": 1.2}
    for name, value in slices.items():
        assert FOUR[f"entropy_{name}"] == pytest.approx(value) and FOUR[f"tokens_{name}"] == 2


def test_metrics_of_four_tokens() -> None:
    # below .01: one; .1: one; .3: two; 1: two, as 1.0 is not below 1; 2 and 4: three
    expected = {"regular": 0.1025, "exploration": 3.0, "right": 2.5025, "wrong": 0.6}
    expected |= {"below_0.01": 0.25, "below_0.1": 0.25, "below_0.3": 0.5, "below_1": 0.5, "below_2": 0.75, "below_4": 0.75}
    assert entropy_metrics(FOUR, 4.0) == pytest.approx({f"entropy/{name}": value for name, value in expected.items()})


def test_a_mean_over_no_tokens_is_absent() -> None:
    found = entropy_metrics(sums([0.5], [False], [True]), 1.0)
    assert set(found) == {"entropy/regular", "entropy/right", *(f"entropy/below_{edge:g}" for edge in BELOW)}
    assert entropy_metrics(sums([], [], []), 0.0) == {}


def test_the_sums_have_the_names_of_metric_sums_and_no_gradient() -> None:
    found = entropy_sums(torch.ones(2, requires_grad=True), torch.tensor([True, False]), torch.tensor([True, True]))
    assert set(found) == {"entropy", *ENTROPY_NAMES} and not any(value.requires_grad for value in found.values())


@given(st.lists(st.tuples(st.floats(0, 12), st.booleans(), st.booleans()), max_size=30), st.integers(0, 30))
def test_sums_add_over_micro_batches(tokens: list[tuple[float, bool, bool]], cut: int) -> None:
    def of(part: list[tuple[float, bool, bool]]) -> dict[str, float]:
        return sums([t[0] for t in part], [t[1] for t in part], [t[2] for t in part])

    whole, first, second = of(tokens), of(tokens[:cut]), of(tokens[cut:])
    assert {name: first[name] + second[name] for name in first} == pytest.approx(whole, abs=1e-9)
    assert whole["tokens_regular"] + whole["tokens_exploration"] == len(tokens) == whole["tokens_right"] + whole["tokens_wrong"]
