"""The list of metrics, its glossary, and the values that are accepted."""

import re
from pathlib import Path

import numpy as np
import pytest

from uec.tracking.metrics import GROUPS, METRICS, describe, finite, glossary

ROOT = Path(__file__).resolve().parents[3]

# The keys that external scripts rely on, repeated here on purpose.
CONTRACT = """
step time/step_s time/generate_s time/explore_s time/reward_s time/learn_s time/sync_s time/idle_s time/engine_idle_s time/controller_s
rollout/tokens rollout/tokens_per_s rollout/engine_tokens_per_s_min rollout/engine_tokens_per_s_max rollout/engine_7_tokens_per_s
rollout/response_len_mean rollout/truncated_frac rollout/regular_tokens
rollout/exploration_tokens rollout/prompts rollout/version_lag_max
reward/mean reward/accuracy_mean reward/format_mean reward/error_frac reward/timeout_frac reward/zero_std_frac
explore/active explore/difficult_frac explore/groups explore/solved_frac explore/temperature
retain/kept_frac retain/regular retain/exploration retain/overlong_dropped
policy/loss policy/entropy policy/kl policy/clip_frac policy/ratio_mean policy/grad_norm policy/lr policy/entropy_cov
policy/rollout_logprob_gap_max policy/rollout_logprob_gap_mean policy/behaviour_weight policy/behaviour_clip_frac policy/marked_frac
entropy/regular entropy/exploration entropy/replay entropy/right entropy/wrong entropy/below_0.1 entropy/change
replay/size replay/admitted replay/used replay/age_mean replay/clip_frac
weights/version weights/bytes weights/probe_gap weights/probe_gap_mean
eval/pass@1 eval/pass@8 eval/pass@16 eval/entropy eval/response_len_mean
""".split()


def documented(text: str) -> dict[str, tuple[str, str]]:
    """Return the unit and meaning of each key in a Markdown table."""
    return {key: (unit, meaning) for key, unit, meaning in re.findall(r"^\| `([^`]+)` \| ([^|]*?) ?\| (.+) \|$", text, re.MULTILINE)}


def test_the_glossary_equals_the_list_of_metrics() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert documented(text) == {metric.key: (metric.unit, metric.text) for metric in METRICS}
    assert text == "\n".join(glossary()) + "\n", "run `python -m uec.tracking.metrics > docs/metrics.md`"


def test_every_key_is_listed_once_and_in_a_group() -> None:
    assert len({metric.key for metric in METRICS}) == len(METRICS)
    assert {metric.group for metric in METRICS} == set(GROUPS)
    groups = [metric.group for metric in METRICS]
    assert groups == sorted(groups, key=list(GROUPS).index)  # in the order of the tables


@pytest.mark.parametrize("key", CONTRACT)
def test_the_contract_is_listed(key: str) -> None:
    assert describe(key) is not None


def test_an_unlisted_key_has_no_description() -> None:
    for key in ("policy/entropie", "eval/pass@", "eval/pass@x", "eval/pass@8_mid", "reward/a/b_mean", "xpolicy/loss"):
        assert describe(key) is None, key


def test_missing_and_infinite_metrics_are_left_out() -> None:
    metrics = {"a": 1.5, "none": None, "nan": float("nan"), "inf": float("inf"), "minus": float("-inf"), "zero": 0.0}
    assert finite(metrics) == {"a": 1.5, "zero": 0.0}


def test_numpy_numbers_become_python_numbers() -> None:
    numbers = finite({"f": np.float32(0.5), "i": np.int64(3), "nan": np.float64("nan")})  # type: ignore[dict-item]
    assert numbers == {"f": 0.5, "i": 3}
    assert [type(value) for value in numbers.values()] == [float, int]


def test_a_metric_that_is_no_number_is_refused_with_its_key() -> None:
    with pytest.raises(TypeError, match="'policy/loss'.*str"):
        finite({"policy/loss": "1.0"})  # type: ignore[dict-item]
