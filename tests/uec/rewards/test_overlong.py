"""DAPO's soft overlong punishment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uec.rewards.graders import overlong_punishment


@pytest.mark.parametrize(
    ("length", "punishment"),
    [
        # longest 100, share .2: the last 20 tokens. Up to 80: 0; 90: (100 - 20 - 90)/20 = -.5; 100: (100 - 20 - 100)/20 = -1
        (1, 0.0),
        (80, 0.0),
        (81, -0.05),
        (90, -0.5),
        (100, -1.0),
    ],
)
def test_the_reward_falls_linearly_over_the_last_share(length: int, punishment: float) -> None:
    assert overlong_punishment(length, 100, 0.2) == pytest.approx(punishment)


def test_without_a_share_nothing_is_punished() -> None:
    assert overlong_punishment(100, 100, None) == 0.0


@given(st.integers(1, 5000), st.floats(0.001, 1), st.data())
def test_a_longer_response_never_loses_less_and_none_more_than_one(longest: int, share: float, data) -> None:
    short, long = sorted(data.draw(st.tuples(st.integers(0, longest), st.integers(0, longest))))
    assert -1 - 1e-9 <= overlong_punishment(long, longest, share) <= overlong_punishment(short, longest, share) <= 0
