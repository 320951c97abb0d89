"""What the chat template does with the assistant's turn: its end is a stop token, and a run says what a template lacks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import tiny_text
from uec.config.schema import Config, DataConfig
from uec.data.assistant_turn import AssistantTurn, end_token, read_turn, resolve_stop_tokens
from uec.data.prompts import load_dataset
from uec.data.row_reader import RowReader
from uec.errors import BadInput
from uec.models.pretrained import load_tokenizer

MISTRAL = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
SILENT = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ONE_SIDED = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
WORDS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\nEND\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
THINKING = tiny_text.CHATML.replace("assistant\n", "assistant\n<think>\n")
ENABLE = tiny_text.CHATML.replace(
    "assistant\n", "assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)


@pytest.fixture
def made(tmp_path: Path, make_config: Callable[..., Config]) -> Callable[..., Config]:
    """Return a config whose model has this template and end of text; `overrides` are further settings."""

    def make(template: str, eos: str = "<|im_end|>", *overrides: str) -> Config:
        folder = tiny_text.build("qwen2", tmp_path / "model", eos_token_id=256)
        tiny_text.tokenizer(template, eos).save_pretrained(folder)
        return make_config(f"model.path={folder}", "data.chat=true", "data.template=null", "data.max_prompt_tokens=100", *overrides)

    return make


def notes(cfg: Config) -> list[str]:
    return resolve_stop_tokens(cfg, load_tokenizer(cfg.model), None)


@pytest.mark.parametrize(
    ("template", "turn"),
    [
        (tiny_text.CHATML, AssistantTurn("<|im_start|>assistant\n", "<|im_start|>assistant\n", "<|im_end|>\n")),
        (MISTRAL, AssistantTurn("", " ", "<|im_end|>")),
        (SILENT, AssistantTurn("", "<|im_start|>assistant\n", "<|im_end|>\n")),
        (ONE_SIDED, AssistantTurn("", "", None)),
        (WORDS, AssistantTurn("assistant: ", "assistant: ", "\nEND\n")),
    ],
)
def test_a_turn_is_read_from_the_template(template: str, turn: AssistantTurn) -> None:
    assert read_turn(RowReader(DataConfig(), tiny_text.tokenizer(template), None)) == turn


def test_a_template_that_rejects_the_probe_is_left_to_the_rows() -> None:
    reader = RowReader(DataConfig(), tiny_text.tokenizer("{{ raise_exception('only with a system message') }}"), None)
    assert read_turn(reader) is None


def test_the_end_of_a_turn_is_its_first_special_token() -> None:
    tokenizer = tiny_text.tokenizer()
    assert end_token(AssistantTurn("", "", "\n<|im_end|>\n"), tokenizer) == 258
    assert end_token(AssistantTurn("", "", "END<|im_end|>"), tokenizer) is None
    assert end_token(AssistantTurn("", "", " \n"), tokenizer) is None
    assert end_token(AssistantTurn("", "", None), tokenizer) is None


def test_a_turn_that_ends_with_another_token_than_the_text_stops_there(made: Callable[..., Config]) -> None:
    cfg = made(tiny_text.CHATML, "<|endoftext|>")
    [note] = notes(cfg)
    assert note == "responses end at '<|im_end|>', too, with which the chat template ends turns; eos_token is '<|endoftext|>'"
    assert cfg.rollout.stop_tokens == [258]
    assert notes(cfg) == [] and cfg.rollout.stop_tokens == [258]  # at a resume


def test_a_turn_that_ends_with_the_text_needs_no_note(made: Callable[..., Config]) -> None:
    cfg = made(tiny_text.CHATML)
    assert notes(cfg) == [] and cfg.rollout.stop_tokens == []


def test_plain_text_has_no_turns(made: Callable[..., Config]) -> None:
    cfg = made(tiny_text.CHATML, "<|endoftext|>", "data.chat=false", "data.template={prompt}")
    assert notes(cfg) == [] and cfg.rollout.stop_tokens == []


@pytest.mark.parametrize(("template", "warned"), [(SILENT, True), (ONE_SIDED, True), (MISTRAL, False), (THINKING, False)])
def test_a_template_that_writes_nothing_for_the_assistant_is_noted(template: str, warned: bool, made: Callable[..., Config]) -> None:
    assert ["writes nothing for the assistant's turn" in note for note in notes(made(template))] == [True] * warned


def test_a_turn_that_ends_with_text_is_noted_unless_a_stop_text_is_set(made: Callable[..., Config]) -> None:
    [note] = notes(made(WORDS))
    assert "ends turns with 'END', which is no token" in note
    assert notes(made(WORDS, "<|im_end|>", "rollout.stop=[END]")) == []


def test_arguments_reach_the_template(made: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "2+2", "answer": "4"}) + "\n")
    ends = {}
    for value in ("true", "false"):
        cfg = made(ENABLE, "<|im_end|>", f"data.chat_template_kwargs={{enable_thinking: {value}}}")
        cfg.data.train, cfg.data.eval = str(tmp_path / "rows.jsonl"), None
        ends[value] = load_dataset(cfg, load_tokenizer(cfg.model)).train[0].text.partition("assistant\n")[2]
    assert ends == {"true": "", "false": "<think>\n\n</think>\n\n"}


@pytest.mark.parametrize(
    ("name", "why"),
    [("enable_thinkin", "is no argument of the model's chat template"), ("messages", "is set by the run"), ("tokenize", "is set by")],
)
def test_arguments_that_the_template_does_not_use_are_refused(name: str, why: str) -> None:
    with pytest.raises(BadInput, match=f"data.chat_template_kwargs: '{name}' {why}"):
        RowReader(DataConfig(chat_template_kwargs={name: False}), tiny_text.tokenizer(ENABLE), None)
    with pytest.raises(BadInput, match="data.chat_template_kwargs are arguments of the chat template, and data.chat=false"):
        RowReader(DataConfig(chat=False, chat_template_kwargs={name: False}), tiny_text.tokenizer(ENABLE), None)


def test_a_prompt_that_opens_the_thought_says_so_to_the_reward_function(made: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "2+2", "answer": "4", "level": 1}) + "\n")
    rows = []
    for template in (THINKING, tiny_text.CHATML):
        cfg = made(template)
        cfg.data.train, cfg.data.eval = str(tmp_path / "rows.jsonl"), None
        rows.append(load_dataset(cfg, load_tokenizer(cfg.model)).train[0].row)
    assert [row.get("prompt_opens_think") for row in rows] == [True, None] and [row["level"] for row in rows] == [1, 1]
