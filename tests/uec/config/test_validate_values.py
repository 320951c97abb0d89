"""Every field takes a bad value with one good line: values that are too large, no number, empty, or of another kind."""

import functools
from collections.abc import Callable
from typing import Any, get_args, get_origin

import pytest

from uec.config.fields import fields, is_section, without_none
from uec.config.schema import Config
from uec.config.validate import validate
from uec.errors import BadInput

MakeConfig = Callable[..., Config]
NUMERIC = [name for name, hint in fields().items() if without_none(hint) in (int, float)]
TEXTS = [name for name, hint in fields().items() if without_none(hint) is str and name != "algorithm"]
CHECKED = {*NUMERIC, *TEXTS, "algorithm", "reward.fn", "data.chat_template_kwargs"}
REST = [name for name in fields() if not is_section(name) and name not in CHECKED]


def problem(make_config: MakeConfig, override: str) -> str | None:
    try:
        validate(make_config(override))
    except BadInput as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", NUMERIC)
def test_a_number_that_is_none_or_has_no_meaning_is_refused_by_name(name: str, make_config: MakeConfig) -> None:
    lowest = "-1e30" if without_none(fields()[name]) is float else str(-(10**30))
    for value in (str(10**12), "1" * 5000, lowest, ".nan", ".inf", "x", "[1]", "{a: 1}"):
        found = problem(make_config, f"{name}={value}")
        assert found is not None and name in found, f"{name}={value[:20]} passed"
        assert max(map(len, found.splitlines())) <= 1000


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_no_process_takes_is_refused_by_name(name: str, make_config: MakeConfig) -> None:
    found = problem(make_config, f"{name}=a\0b")
    assert found is not None and name in found and "zero byte" in found or "is none of" in str(found)
    found = problem(make_config, f"{name}={'a' * 100_001}")
    assert found is not None and name in found and max(map(len, found.splitlines())) <= 1000


@pytest.mark.parametrize("name", REST)
def test_a_field_of_another_kind_refuses_what_it_does_not_take(name: str, make_config: MakeConfig) -> None:
    hint = without_none(fields()[name])
    values = ["[[1]]", "{a: {b: 1}}"] if get_origin(hint) is list else ["[1, [2]]", "{a: {b: x}}"]
    for value in values:
        found = problem(make_config, f"{name}={value}")
        assert found is not None and name in found, f"{name}={value}"


@pytest.mark.parametrize(
    "override, wanted",
    [
        ("run.seed=4294967296", "run.seed=4294967296 must be at most 4294967295"),
        ("learner.threads=1000000", "learner.threads=1000000 must be at most 512"),
        ("rollout.temperature=1e6", "rollout.temperature=1000000.0 must be at most 10"),
        ("learner.lr=1e6", "learner.lr=1000000.0 must be at most 1"),
        ("reward.timeout_s=1e-9", "reward.timeout_s=1e-09 must be at least 0.01"),
        ("weights.timeout_s=1e9", "weights.timeout_s=1000000000.0 must be at most 604800"),
        ("eval.k=[1, 1000000]", "eval.k[1]=1000000 must be at most 16384"),
        ("reward.weights={}", "command line: reward.weights is empty; name at least one part with its weight, e.g. {accuracy: 1.0}"),
        ("reward.weights={accuracy: 0}", "reward.weights={'accuracy': 0.0} makes every reward 0; give a part a weight above 0"),
        (f"rollout.stop=[{', '.join('x' * 1001)}]", "rollout.stop holds 1001 items; it takes at most 1000"),
        (
            f"model.path=/tmp/{'a' * 256}",
            f"model.path='/tmp/{'a' * 51}... has a part of more than 255 bytes, which no file system takes; shorten it",
        ),
        (f"run.dir={'a/' * 2001}", f"run.dir='{'a/' * 28}... has 4002 characters; it takes at most 4000"),
    ],
)  # fmt: skip
def test_the_message_says_what_would_be_right(override: str, wanted: str, make_config: MakeConfig) -> None:
    assert problem(make_config, override) == wanted


def test_a_step_of_too_many_responses_names_what_makes_them(make_config: MakeConfig) -> None:
    found = problem(make_config, "train.prompts_per_step=100000")
    assert found is None  # 2.8 million responses: slow, and possible
    found = str(problem(functools.partial(make_config, "rollout.n=1000"), "train.prompts_per_step=100000"))
    assert "can make 101600000 responses a step; a step takes at most 10000000: lower them" in found


def test_every_number_of_the_schema_has_an_upper_bound() -> None:
    import dataclasses

    def unbounded(cls: Any, prefix: str) -> list[str]:
        found = []
        for spec in dataclasses.fields(cls):
            hint = without_none(fields()[prefix + spec.name])
            if dataclasses.is_dataclass(hint):
                found += unbounded(hint, f"{prefix}{spec.name}.")
            elif hint in (int, float) or get_args(hint)[-1:] in ((int,), (float,)):
                if all(spec.metadata.get(bound) is None for bound in ("le", "lt", "most")):
                    found.append(prefix + spec.name)
        return found

    assert unbounded(Config, "") == ["loss.cov_range"]  # validate_algorithm.py checks its two numbers


