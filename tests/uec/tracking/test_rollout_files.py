"""rollouts/step_NNNNNN.jsonl: what a line says, and that the file is whole or not there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uec.tracking.rollouts import Page, write_replayed, write_rollouts
from uec.tracking.token_ends import token_ends
from uec.types import Kind, Prompt, Tokens, TrainingSample, Trajectory


def prompt(index: int, text: str) -> Prompt:
    return Prompt(index, text, np.array([1, 2], np.int32), answer=f"answer {index}", row={})


def trajectory(prompt: int, slot: int, tokens: list[int], logprobs: list[float]) -> Trajectory:
    return Trajectory(
        group=prompt + 100,
        index=slot,
        prompt=prompt,
        kind=Kind.REGULAR,
        temperature=1.0,
        prompt_tokens=np.array([1, 2], np.int32),
        tokens=np.array(tokens, np.int32),
        logprobs=np.array(logprobs, np.float32),
        truncated=False,
        versions=(3,),
    )


def graded(one: Trajectory, slot: int, reward: float, **changes) -> TrainingSample:
    made = TrainingSample.of(one, slot, reward=reward, accuracy=reward, parts={"accuracy": reward})
    return replace(made, **changes)


def decode(responses: list[Tokens]) -> list[str]:
    return [" ".join(f"<{token}>" for token in tokens) for tokens in responses]


PROMPTS = {7: prompt(7, "What is 3 + 4?\nThink."), 8: prompt(8, 'déjà "vu" 数学 \ud800')}
BATCHES = [[trajectory(7, 0, [5, 6], [-0.5, -1.5]), trajectory(7, 1, [9], [-2.0])], [trajectory(8, 0, [], [])]]


def test_a_line_says_all_of_a_response_and_finds_its_tokens_by_batch_and_slot(tmp_path: Path) -> None:
    path = tmp_path / "rollouts" / "step_000012.jsonl"
    samples = [
        [graded(BATCHES[0][0], 0, 0.0), graded(BATCHES[0][1], 1, 1.0)],
        [graded(BATCHES[1][0], 0, 0.0, parts={}, error="boom", timed_out=True)],
    ]
    pages = [Page([1, 0], {1: 1.5, 0: -0.5}), Page([0], {}, difficult={0})]
    write_rollouts(path, 12, pages, BATCHES, samples, PROMPTS, decode)
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
        "difficult": False,
        "truncated": False,
        "error": None,
        "tokens": 1,
        "logprob_mean": -2.0,
        "logprobs": [-2.0],
        "token_ends": [3],
    }
    assert rows[2]["prompt"] == 'déjà "vu" 数学 \ud800' and rows[2]["response"] == "" and rows[2]["error"] == "boom"
    assert rows[2]["advantage"] is None and rows[2]["kept"] is False
    assert rows[2]["logprob_mean"] is None, "a mean over no token"
    assert rows[2]["difficult"] and rows[2]["logprobs"] == rows[2]["token_ends"] == []
    assert rows[0]["logprobs"] == [-0.5, -1.5] and rows[0]["token_ends"] == [3, 7], "the space before <6> belongs to it"
    assert rows[0]["response"] == "<5> <6>" and rows[0]["logprob_mean"] == -1.0 and rows[0]["advantage"] == -0.5
    assert "数学" in path.read_text(encoding="utf-8"), "text that a person can read"


def test_numbers_that_are_not_finite_are_null_and_the_line_stays_json(tmp_path: Path) -> None:
    broken = [[trajectory(7, 0, [5], [float("-inf")])]]
    samples = [[graded(broken[0][0], 0, float("nan"))]]
    write_rollouts(tmp_path / "step.jsonl", 1, [Page([0], {0: float("inf")})], broken, samples, PROMPTS, decode)
    row = json.loads((tmp_path / "step.jsonl").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert row["reward"] is row["advantage"] is row["logprob_mean"] is None and row["parts"] == {"accuracy": None}
    assert row["logprobs"] == [None]


def test_an_empty_step_is_an_empty_file_and_an_older_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "step.jsonl"
    write_rollouts(path, 1, [Page([0], {})], BATCHES[:1], [[graded(BATCHES[0][0], 0, 1.0)]], PROMPTS, decode)
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


def pieces(text: str, ends: list[int]) -> list[str]:
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def as_tokens(*responses: list[int]) -> list[Tokens]:
    return [np.array(tokens, np.int32) for tokens in responses]


def utf8(responses: list[Tokens]) -> list[str]:
    """A byte-level decoder: token b is byte b, 256 is the end of the text."""
    return [bytes(t for t in tokens.tolist() if t < 256).decode("utf-8", "replace") for tokens in responses]


def test_a_character_of_several_tokens_belongs_to_the_last_and_the_end_of_text_shows_nothing() -> None:
    text = "a数é!"  # 1, 3, 2 and 1 bytes
    tokens = as_tokens([*text.encode(), 256], [*b"ok", 256], [])
    texts = utf8(tokens)
    whole, plain, empty = token_ends(tokens, texts, utf8)
    assert whole is not None and pieces(text, whole) == ["a", "", "", "数", "", "é", "!", ""]
    assert plain == [1, 2, 2] and empty == []


def test_bytes_that_are_no_character_are_shown_as_the_decoder_shows_them() -> None:
    tokens = as_tokens([0x61, 0xE6, 0x95])  # a, and two of the three bytes of a character: the response was cut off
    [text] = utf8(tokens)
    assert text == "a\N{REPLACEMENT CHARACTER}"
    assert token_ends(tokens, [text], utf8)[0] in ([1, 1, 2], [1, 2, 2])


def test_tokens_that_do_not_give_the_text_have_no_ends_rather_than_wrong_ones() -> None:
    def backwards(responses: list[Tokens]) -> list[str]:
        return ["".join(str(t) for t in tokens[::-1]) for tokens in responses]

    tokens = as_tokens([1, 2, 3])
    assert token_ends(tokens, backwards(tokens), backwards) == [None]


@pytest.mark.parametrize("assets", ["countdown", "geometry"])
def test_the_ends_of_the_initial_models_tokens_cut_their_texts_without_loss(assets: str, project: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(project / "assets" / assets / "tokenizer.json"))

    def decode(responses: list[Tokens]) -> list[str]:
        return tokenizer.decode_batch([tokens.tolist() for tokens in responses], skip_special_tokens=True)

    rng = np.random.default_rng(0)
    tokens = [rng.integers(0, tokenizer.get_vocab_size(), n, dtype=np.int32) for n in range(40)]
    for text, ends in zip(decode(tokens), token_ends(tokens, decode(tokens), decode), strict=True):
        assert ends is not None and "".join(pieces(text, ends)) == text


def test_a_replay_update_says_which_responses_it_drew_and_when_they_were_admitted(tmp_path: Path) -> None:
    drawn = [TrainingSample(7, 0, 2, 5, kind=Kind.EXPLORATION, group=12, index=3, advantage=1.5, admitted=6)]
    path = tmp_path / "rollouts" / "replayed_000010.jsonl"
    write_replayed(path, 10, drawn)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 10, "admitted": 6, "prompt_index": 7, "group": 12, "index": 3, "advantage": 1.5}
    ]
    assert list(path.parent.iterdir()) == [path]
