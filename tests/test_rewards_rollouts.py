"""rollouts/step_NNNNNN.jsonl: what a line says, and that the file is whole or not there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uec.tracking.rollouts import Page, write_rollouts
from uec.types import Kind, Prompt, Rollout, Score, Tokens


def prompt(index: int, text: str) -> Prompt:
    return Prompt(index, text, np.array([1, 2], np.int32), answer=f"answer {index}", row={})


def rollout(prompt: int, slot: int, tokens: list[int], logprobs: list[float]) -> Rollout:
    return Rollout(
        group=prompt + 100,
        index=slot,
        prompt=prompt,
        kind=Kind.REGULAR,
        temperature=1.0,
        prompt_tokens=np.array([1, 2], np.int32),
        tokens=np.array(tokens, np.int32),
        logprobs=np.array(logprobs, np.float32),
        truncated=False,
        version=3,
    )


def score(rollout: Rollout, slot: int, reward: float, **changes) -> Score:
    made = Score(
        group=rollout.group,
        index=rollout.index,
        slot=slot,
        reward=reward,
        accuracy=reward,
        parts={"accuracy": reward},
        error=None,
        timed_out=False,
        prompt_tokens=2,
        response_tokens=len(rollout.tokens),
        truncated=rollout.truncated,
        version=rollout.version,
    )
    return replace(made, **changes)


def decode(responses: list[Tokens]) -> list[str]:
    return [" ".join(f"<{token}>" for token in tokens) for tokens in responses]


PROMPTS = {7: prompt(7, "What is 3 + 4?\nThink."), 8: prompt(8, 'déjà "vu" 数学 \ud800')}
BUNDLES = [[rollout(7, 0, [5, 6], [-0.5, -1.5]), rollout(7, 1, [9], [-2.0])], [rollout(8, 0, [], [])]]


def test_a_line_says_all_of_a_response_and_finds_its_tokens_by_bundle_and_slot(tmp_path: Path) -> None:
    path = tmp_path / "rollouts" / "step_000012.jsonl"
    scores = [
        [score(BUNDLES[0][0], 0, 0.0), score(BUNDLES[0][1], 1, 1.0)],
        [score(BUNDLES[1][0], 0, 0.0, parts={}, error="boom", timed_out=True)],
    ]
    pages = [Page([1, 0], {1: 1.5, 0: -0.5}), Page([0], {})]
    write_rollouts(path, 12, pages, BUNDLES, scores, PROMPTS, decode)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(row["group"], row["index"]) for row in rows] == [(107, 0), (107, 1), (108, 0)]
    assert rows[1] == {
        "step": 12,
        "prompt_index": 7,
        "group": 107,
        "index": 1,
        "prompt": "What is 3 + 4?\nThink.",
        "response": "<9>",
        "answer": "answer 7",
        "kind": "regular",
        "temperature": 1.0,
        "version": 3,
        "reward": 1.0,
        "accuracy": 1.0,
        "parts": {"accuracy": 1.0},
        "advantage": 1.5,
        "kept": True,
        "truncated": False,
        "error": None,
        "tokens": 1,
        "logprob_mean": -2.0,
    }
    assert rows[2]["prompt"] == 'déjà "vu" 数学 \ud800' and rows[2]["response"] == "" and rows[2]["error"] == "boom"
    assert rows[2]["advantage"] is None and rows[2]["kept"] is False
    assert rows[2]["logprob_mean"] is None, "a mean over no token"
    assert rows[0]["response"] == "<5> <6>" and rows[0]["logprob_mean"] == -1.0 and rows[0]["advantage"] == -0.5
    assert "数学" in path.read_text(encoding="utf-8"), "text that a person can read"


def test_figures_that_are_not_finite_are_null_and_the_line_stays_json(tmp_path: Path) -> None:
    broken = [[rollout(7, 0, [5], [float("-inf")])]]
    scores = [[score(broken[0][0], 0, float("nan"))]]
    write_rollouts(tmp_path / "step.jsonl", 1, [Page([0], {0: float("inf")})], broken, scores, PROMPTS, decode)
    row = json.loads((tmp_path / "step.jsonl").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert row["reward"] is row["advantage"] is row["logprob_mean"] is None and row["parts"] == {"accuracy": None}


def test_an_empty_step_is_an_empty_file_and_an_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "step.jsonl"
    write_rollouts(path, 1, [Page([0], {})], BUNDLES[:1], [[score(BUNDLES[0][0], 0, 1.0)]], PROMPTS, decode)
    write_rollouts(path, 1, [], [], [], PROMPTS, decode)
    assert path.read_text() == "" and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_leaves_the_older_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "step.jsonl"
    path.write_text("old")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_rollouts(path, 1, [], [], [], PROMPTS, decode)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
