"""YAML that would never end, fill the memory, or hold more than plain values is refused in one line."""

import os
from pathlib import Path

import pytest

from uec.config.file import load_config
from uec.errors import BadInput

BASE = "model: {path: m}\ndata: {train: t}\n"
NINE = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(NINE)  # `i` stands for 9^9 values


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(BadInput) as caught:
        load_config(path, list(overrides))
    text = str(caught.value)
    assert max(map(len, text.splitlines())) <= 1000
    return text


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("rollout: &r\n  n: 4\n  stop: *r\n", "line 3: not valid YAML: a value contains itself by an alias"),
        ("rollout: &r {stop: [*r]}\n", "a value contains itself by an alias"),
        (BOMB + "tracking: *i\n", "this stands for more than 20000 values"),
        (f"rollout: {{stop: {'[' * 30}{']' * 30}}}\n", "nested more than 20 levels deep"),
        (f"rollout: {{stop: {'[' * 100_000}\n", "nested more than 20 levels deep"),
        ("run: {name: !!binary aGVsbG8=}\n", "the tag '!!binary' is not allowed"),
        ("run: {name: !!python/object/apply:os.system [ls]}\n", "the tag '!!python/object/apply:os.system' is not allowed"),
        ("tracking: !!set {console}\n", "the tag '!!set' is not allowed"),
        (f"run: {{seed: {'1' * 5000}}}\n", "run.seed must be a whole number; its value cannot be read"),
        (f"learner: {{lr: {'1' * 400}}}\n", "learner.lr must be a number, got a number of 1326 bits"),
        ("rollout: {n: 2024-13-45}\n", "rollout.n must be a whole number; its value cannot be read: month must be in 1..12"),
    ],
)  # fmt: skip
def test_text_that_no_config_may_hold_is_refused_with_its_place(tmp_path: Path, text: str, wanted: str) -> None:
    (tmp_path / "a.yaml").write_text(BASE + text)
    found = message(tmp_path / "a.yaml")
    assert wanted in found and found.startswith(str(tmp_path / "a.yaml"))


def test_anchors_and_merge_keys_of_usual_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BASE + "rollout: &r\n  temperature: 0.9\neval:\n  <<: *r\n  n: 4\n  k: [1]\n")
    cfg = load_config(tmp_path / "a.yaml", [])
    assert (cfg.rollout.temperature, cfg.eval.temperature, cfg.eval.n) == (0.9, 0.9, 4)


@pytest.mark.parametrize("value", ["٣", "８", "[1, ８]"])
def test_digits_of_another_script_are_no_numbers(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.yaml").write_text(BASE)
    key = "eval.k" if value.startswith("[") else "rollout.n"
    assert f"command line: {key} must be a" in message(tmp_path / "a.yaml", f"{key}={value}")


def test_a_named_pipe_a_device_a_long_file_and_an_impossible_path_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "pipe.yaml is a named pipe; give a YAML file" in message(tmp_path / "pipe.yaml")
    assert "/dev/zero is a device or a socket; give a YAML file" in message(Path("/dev/zero"))
    (tmp_path / "long.yaml").write_text("#" * (3 << 20))
    assert "long.yaml has 3 MiB; a config file has at most 1" in message(tmp_path / "long.yaml")
    assert "embedded null byte; correct the path" in message(tmp_path / "a\0b.yaml")
    assert "cannot be read: File name too long" in message(tmp_path / ("a" * 300))


def test_a_file_that_another_extends_is_read_as_carefully(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "parent.yaml")
    (tmp_path / "a.yaml").write_text("extends: parent.yaml\n" + BASE)
    assert "which is a named pipe" in message(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "key, value, shown",
    [
        ("rollout.n", "010", "'010'"),  # 8 in YAML 1.1
        ("train.steps", "1:30", "'1:30'"),  # 90
        ("learner.lr", "1:30.5", "'1:30.5'"),
        ("rollout.n", "0b101", "'0b101'"),
        ("eval.k", "[1, 010]", "'010'"),
        ("reward.weights", "{accuracy: 010}", "'010'"),
        ("data.chat_template_kwargs", "{budget: 1:30}", "'1:30'"),
    ],
)
def test_numbers_to_another_base_than_ten_are_refused(tmp_path: Path, key: str, value: str, shown: str) -> None:
    (tmp_path / "a.yaml").write_text(BASE)
    wanted = f"its value cannot be read: YAML reads {shown} to another base than ten; write a decimal number"
    assert wanted in message(tmp_path / "a.yaml", f"{key}={value}")
    section, field = key.split(".")
    settings = f"{section}: {{{field}: {value}}}\n" if section != "data" else f"{section}: {{train: t, {field}: {value}}}\n"
    (tmp_path / "b.yaml").write_text("".join(line for line in BASE.splitlines(True) if not line.startswith(section)) + settings)
    assert wanted in message(tmp_path / "b.yaml")


def test_decimal_numbers_and_texts_that_look_like_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BASE + "run: {name: 010, seed: 0}\nlearner: {lr: 1.5e-6}\nrollout: {n: +16, stop: [1:30]}\n")
    cfg = load_config(tmp_path / "a.yaml", ["train.steps=1_000", "rollout.temperature=.5", "data.chat_template_kwargs={date: '010'}"])
    assert (cfg.run.name, cfg.run.seed, cfg.learner.lr, cfg.rollout.n, cfg.rollout.stop) == ("010", 0, 1.5e-6, 16, ["1:30"])
    assert (cfg.train.steps, cfg.rollout.temperature, cfg.data.chat_template_kwargs) == (1000, 0.5, {"date": "010"})
