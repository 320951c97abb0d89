"""The forms of rows that people have: fields inside columns, several answers, chat messages with tools, prefills and images."""

# ruff: noqa: F811 (fixtures of another module)

import asyncio
import base64
import json
import time
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.uec.data.test_data import CHAT, byte_tokenizer, cfg, complaint, write  # noqa: F401
from uec.config.schema import Config
from uec.data.prompts import load_dataset
from uec.rewards.pool import GradingPool
from uec.rewards.wire import Task
from uec.types import Prompt

TOOLS = (
    "{% if tools %}[tools]{{ tools | tojson }}{% endif %}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if m.tool_calls is defined %}{{ m.tool_calls | tojson }}{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}}
USER = {"role": "user", "content": "1+1?"}


def load(cfg: Config, template: str | None = CHAT) -> list[Prompt]:
    cfg.data.chat = template is not None
    return load_dataset(cfg, byte_tokenizer(chat_template=template)).train


# --- columns and answers


def test_columns_inside_columns_are_named_by_their_path(cfg: Config, write: Callable[..., str]) -> None:
    cfg.data.prompt_key, cfg.data.answer_key, cfg.data.template = "extra.q", "reward_model.ground_truth", "{prompt} {extra.hint} {x.y}"
    row = {"extra": {"q": "1+1?", "hint": "h"}, "reward_model": {"style": "rule", "ground_truth": 2}}
    write(row, {**row, "reward_model": json.dumps(row["reward_model"])}, {**row, "reward_model.ground_truth": "3"})
    found = load(cfg, None)
    assert [(prompt.text, prompt.answer) for prompt in found] == [("1+1? h {x.y}", "2"), ("1+1? h {x.y}", "2"), ("1+1? h {x.y}", "3")]
    assert found[0].row == row

    cfg.data.template = "{prompt} {reward_model}"
    assert "would put the reference answer, {reward_model}, into the prompt" in complaint(lambda: load(cfg, None))
    cfg.data.template, cfg.data.answer_key = None, "extra.answers.1"
    write({"extra": {"q": "?", "answers": ["a", "b"]}})
    assert load(cfg, None)[0].answer == "b"
    cfg.data.answer_key = "extra.answers.2"
    said = complaint(lambda: load(cfg, None))
    assert "no column 'extra.answers.2' (data.answer_key); there are 'extra', 'extra.q', 'extra.answers'" in said


def test_a_list_of_answers_stays_a_list_up_to_the_reward_function(
    cfg: Config,
    write: Callable[..., str],
    tmp_path: Path,
) -> None:
    write({"prompt": "p", "answer": ["#1", 2.0]}, {"prompt": "p", "answer": ["3"]}, {"prompt": "p", "answer": "4"})
    assert [prompt.answer for prompt in load(cfg, None)] == [["#1", "2"], ["3"], "4"]
    cfg.data.answer_regex = r"(\d)"
    assert [prompt.answer for prompt in load(cfg, None)] == [["1", "2"], ["3"], "4"]

    (tmp_path / "any.py").write_text("def score(response, answer, **row):\n    return float(response in answer)\n")
    cfg.reward.fn, cfg.reward.processes = f"{tmp_path}/any.py:score", 1
    pool = GradingPool(cfg.reward)
    pool.start()
    try:
        grades = asyncio.run(pool.grade([Task("2", ["1", "2"], {}), Task("5", ["1", "2"], {})]))
    finally:
        pool.close()
    assert [grade.accuracy for grade in grades] == [1.0, 0.0]


def test_decimals_become_text_and_other_values_of_a_table_are_refused(cfg: Config, tmp_path: Path) -> None:
    def answers(*values: Any) -> list[Any]:
        pyarrow.parquet.write_table(pyarrow.table({"prompt": ["p"] * len(values), "answer": list(values)}), tmp_path / "a.parquet")
        cfg.data.train = str(tmp_path / "a.parquet")
        return [prompt.answer for prompt in load(cfg, None)]

    assert answers(Decimal("7.00"), Decimal("7.50"), Decimal("-0.05")) == ["7", "7.5", "-0.05"]
    assert "is date datetime.date(2020, 1, 2); expected text, a number, or a list" in complaint(lambda: answers(date(2020, 1, 2)))
    assert "is dict {'x': '1'}; expected text" in complaint(lambda: answers({"x": "1"}))
    assert "is bytes b'1'" in complaint(lambda: answers(b"1"))


def test_a_pattern_that_takes_for_ever_is_stopped_at_its_row(cfg: Config, write: Callable[..., str]) -> None:
    write({"prompt": "p", "answer": "aaa"}, {"prompt": "p", "answer": "a" * 60 + "!"})
    cfg.data.answer_regex, cfg.data.answer_regex_s = "^(a+)+$", 1.0
    begin = time.monotonic()
    said = complaint(lambda: load(cfg, None))
    assert "row 2: data.answer_regex '^(a+)+$' takes longer than data.answer_regex_s=1 s; a repetition inside a repetition" in said
    assert time.monotonic() - begin < 60  # it would take longer than the universe


@pytest.mark.parametrize("column", ["prompt", "answer", "x" * 3000])
def test_no_message_is_longer_than_1000_characters(cfg: Config, write: Callable[..., str], column: str) -> None:
    for value in ("\ud800" * 9000, {"k" * 5000: 1}, [["x" * 9000]], [{"role": "user", "content": "x" * 9000 + "\ud800"}], None, 10**4000):
        write({"prompt": "p", "answer": "a", column: value, **{f"c{i}" * 50: i for i in range(200)}})
        cfg.data.answer_regex = "(" + "b" * 3000 + ")"
        for chat in (CHAT, None):
            assert len(complaint(lambda template=chat: load(cfg, template))) <= 1000


# --- chat messages


def test_messages_as_text_are_messages(cfg: Config, write: Callable[..., str]) -> None:
    turns = [{"role": "user", "content": 'it\'s "1"'}]
    write({"prompt": json.dumps(turns), "answer": "a"}, {"prompt": f" {turns}", "answer": "a"}, {"prompt": "[{x}] is text", "answer": "a"})
    user = '<s>[user]it\'s "1"[assistant]'
    assert [prompt.text for prompt in load(cfg)] == [user, user, "<s>[user][{x}] is text[assistant]"]
    assert "holds chat messages, which need data.chat=true" in complaint(lambda: load(cfg, None))
    write({"prompt": '[{"role": "user", "content": "cut', "answer": "a"})
    assert "row 1: the prompt begins like chat messages as text, and is no JSON" in complaint(lambda: load(cfg))


@pytest.mark.parametrize("role", ["assistant", "Assistant", "model", "gpt"])
def test_a_conversation_that_ends_with_the_solution_is_refused(cfg: Config, write: Callable[..., str], role: str) -> None:
    turns = [USER, {"role": role, "content": "2"}]
    for value in (turns, json.dumps(turns)):
        write({"prompt": value, "answer": "2"})
        said = complaint(lambda: load(cfg))
        assert "row 1: the last of the chat messages is the assistant's, and the model would read the solution" in said
        assert "data.continue_final_message=true" in said


def test_a_prefill_is_continued_if_the_config_says_so(cfg: Config, write: Callable[..., str]) -> None:
    write({"prompt": [USER, {"role": "assistant", "content": "<think>"}], "answer": "2"}, {"prompt": "1+1?", "answer": "2"})
    cfg.data.continue_final_message = True
    assert [prompt.text for prompt in load(cfg)] == ["<s>[user]1+1?[assistant]<think>", "<s>[user]1+1?[assistant]"]
    write({"prompt": [USER, {"role": "assistant", "content": " "}], "answer": "2"})
    assert "there is nothing to continue" in complaint(lambda: load(cfg))


@pytest.mark.parametrize("turns", [[{"role": "user", "content": " "}], [{"role": "system", "content": "x"}, {**USER, "content": ""}]])
def test_messages_without_text_are_an_empty_prompt(cfg: Config, write: Callable[..., str], turns: Any) -> None:
    write({"prompt": turns, "answer": "2"})
    assert "row 1: the prompt is empty" in complaint(lambda: load(cfg))


def test_null_beside_tool_calls_is_no_text(cfg: Config, write: Callable[..., str], tmp_path: Path) -> None:
    call = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
    turns = [USER, {"role": "assistant", "content": None, "tool_calls": call}, {"role": "tool", "content": "2"}]
    write({"prompt": turns, "answer": "2"}, {"prompt": [USER, {"role": "assistant", "tool_calls": call}, turns[2]], "answer": "2"})
    text = f"[user]1+1?[assistant]{json.dumps(call)}[tool]2[assistant]"
    assert [prompt.text for prompt in load(cfg, TOOLS)] == [text, text]
    # a table gives every message all keys, with null
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"prompt": turns, "answer": "2"}]), tmp_path / "a.parquet")
    cfg.data.train = str(tmp_path / "a.parquet")
    assert json.loads(load(cfg, TOOLS)[0].text.split("[assistant]")[1].split("[tool]")[0]) == call


def test_tools_are_shown_by_the_template_or_refused(cfg: Config, write: Callable[..., str]) -> None:
    row = {"prompt": "1+1?", "answer": "2"}
    for tools in ([ADD], json.dumps([ADD]), [{**ADD, "strict": None}]):
        write({**row, "tools": tools}, {**row, "tools": None}, {**row, "tools": []}, {**row, "tools": ""}, {**row, "tools": "[]"})
        found = [prompt.text for prompt in load(cfg, TOOLS)]
        assert found == [f"[tools]{json.dumps([ADD])}[user]1+1?[assistant]", *["[user]1+1?[assistant]"] * 4]
    assert "row 1: the row has tools in 'tools' (data.tools_key), and the model's chat template shows none" in complaint(lambda: load(cfg))
    assert "which need data.chat=true" in complaint(lambda: load(cfg, None))
    cfg.data.template = "{tools} {prompt}"
    assert load(cfg, None)[0].text.startswith("[{'type'")
    cfg.data.template = cfg.data.tools_key = None
    assert load(cfg)[0].text == "<s>[user]1+1?[assistant]"
    cfg.data.tools_key = "tools"
    write({**row, "tools": "hammer"})
    assert "are str 'hammer'; expected a list of JSON schemas" in complaint(lambda: load(cfg))


def test_a_text_model_refuses_an_image_inside_a_message(cfg: Config, write: Callable[..., str]) -> None:
    url = "data:image/png;base64," + base64.b64encode(b"x" * 9000).decode()
    write({"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}], "answer": "2"})
    said = complaint(lambda: load(cfg))
    assert "in a chat message, and the model reads text only; take a vision-language model" in said and len(said) < 1000
