"""From the user's rows to prompts: reading, templates, chat templates, tokenisation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from uec.config.schema import Config
from uec.data.prompts import load_dataset
from uec.data.tables import load_rows
from uec.errors import BadInput
from uec.models.pretrained import load_tokenizer

CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def byte_tokenizer(template: str = "<s> $A", chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte; `template` places <s> and </s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [("<s>", 256), ("</s>", 257)]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=chat_template)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes rows to a .jsonl file and returns its path."""

    def write(*rows: Any, name: str = "rows.jsonl") -> str:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    return write


@pytest.fixture
def cfg(make_config: Callable[..., Config], tmp_path: Path) -> Config:
    """Return a config for plain text prompts of at most 1000 tokens from the file of `write`, without evaluation."""
    cfg = make_config("data.max_prompt_tokens=1000", "data.chat=false")
    cfg.data.train, cfg.data.eval = str(tmp_path / "rows.jsonl"), None
    return cfg


def complaint(action: Callable[[], Any]) -> str:
    with pytest.raises(BadInput) as raised:
        action()
    return str(raised.value)


# --- where rows come from


def test_jsonl_rows_are_read_without_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\ufeff{"a": 1}\n\n  \n{"a": {"b": [2]}}', encoding="utf-8")
    assert load_rows(str(tmp_path / "a.jsonl"), "train", "data.train") == [{"a": 1}, {"a": {"b": [2]}}]


def test_parquet_rows_are_read(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"q": ["x", "y"], "a": [1, 2]}), tmp_path / "a.parquet")
    assert load_rows(str(tmp_path / "a.parquet"), "train", "data.train") == [{"q": "x", "a": 1}, {"q": "y", "a": 2}]


def test_a_folders_files_are_chosen_by_the_split_in_their_names(tmp_path: Path, write: Callable[..., str]) -> None:
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"q": ["one"]}), tmp_path / "data" / "train-00000-of-00002.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"q": ["two"]}), tmp_path / "data" / "train-00001-of-00002.parquet")
    write({"q": "three"}, name="data/test.jsonl")
    assert load_rows(str(tmp_path), "train", "data.train") == [{"q": "one"}, {"q": "two"}]
    assert load_rows(str(tmp_path), "test", "data.eval") == [{"q": "three"}]
    said = complaint(lambda: load_rows(str(tmp_path), "dev", "data.eval"))
    assert "named after the split dev; there are data/test.jsonl, data/train-" in said


def test_rows_are_read_from_a_saved_dataset(tmp_path: Path) -> None:
    import datasets

    saved = datasets.Dataset.from_list([{"q": "x"}])
    saved.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": saved}).save_to_disk(str(tmp_path / "dict"))
    assert load_rows(str(tmp_path / "one"), "train", "data.train") == [{"q": "x"}]
    assert load_rows(str(tmp_path / "dict"), "train", "data.train") == [{"q": "x"}]
    assert "has no split test; it has train" in complaint(lambda: load_rows(str(tmp_path / "dict"), "test", "data.eval"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": \n', "rows.jsonl, line 2: not JSON (Expecting value, column 6); give one JSON object a line"),
        (b'{"a": 1}\n\n[1]\n', "rows.jsonl, line 3: list where a JSON object is expected"),
        (b"", "holds no rows"),
        (b"\n\n", "holds no rows"),
        (b'{"a": "\xff"}', "rows.jsonl is not UTF-8 text"),
    ],
)
def test_a_bad_jsonl_file_is_named_with_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    said = complaint(lambda: load_rows(str(tmp_path / "rows.jsonl"), "train", "data.eval"))
    assert said.startswith("data.eval: ") and message in said


def test_a_bad_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no parquet")
    assert "a.parquet is no parquet file that can be read" in complaint(lambda: load_rows(str(tmp_path / "a.parquet"), "", "data.train"))


@pytest.mark.parametrize("source", ["missing.jsonl", "./missing", "/nowhere/missing", "a/b/missing"])
def test_a_missing_file_is_named_and_not_looked_for_on_the_hub(source: str) -> None:
    assert complaint(lambda: load_rows(source, "train", "data.train")).startswith("data.train: there is no file /")


def test_other_file_types_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("a,b\n")
    said = complaint(lambda: load_rows(str(tmp_path / "a.xlsx"), "", "data.train"))
    assert "a.xlsx has the ending .xlsx; a data file ends in .jsonl" in said
    (tmp_path / "b").mkdir()
    assert "no data file in the folder" in complaint(lambda: load_rows(str(tmp_path / "b"), "", "data.train"))


def test_a_dataset_name_without_a_hub_says_what_to_pass_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    said = complaint(lambda: load_rows("nobody/nothing:main", "train", "data.train"))
    assert "there is no file or folder nobody/nothing:main" in said and "HF_HUB_OFFLINE is set" in said
    assert "Pass a file instead" in said

    monkeypatch.setattr("uec.data.tables.is_offline", lambda: False)
    monkeypatch.setattr("uec.data.tables.why_unreachable", lambda: "https://hub cannot be reached: no route")
    said = complaint(lambda: load_rows("nobody/nothing", "train", "data.train"))
    assert "it needs the hub: https://hub cannot be reached: no route. Pass a file" in said


# --- from rows to prompts


def test_a_plain_prompt_gets_the_tokenizers_special_tokens(cfg: Config, write: Callable[..., str]) -> None:
    write({"prompt": "Hi", "answer": "a"})
    prompt = load_dataset(cfg, byte_tokenizer()).train[0]
    tokenizer = byte_tokenizer()
    assert prompt.tokens.tolist() == [256, *tokenizer("Hi", add_special_tokens=False).input_ids]
    assert (prompt.tokens.dtype, prompt.text, prompt.answer) == ("int32", "Hi", "a")


def test_special_tokens_are_not_duplicated(cfg: Config, write: Callable[..., str]) -> None:
    write({"prompt": "<s>Hi", "answer": "a"})
    assert load_dataset(cfg, byte_tokenizer()).train[0].tokens.tolist()[:2] != [256, 256]
    cfg.data.chat = True
    write({"prompt": "Hi", "answer": "a"})
    tokens = load_dataset(cfg, byte_tokenizer(chat_template=CHAT)).train[0].tokens.tolist()
    assert tokens.count(256) == 1 and tokens[0] == 256


def test_an_end_of_text_that_the_tokenizer_adds_is_removed(cfg: Config, write: Callable[..., str]) -> None:
    write({"prompt": "Hi", "answer": "a"}, {"prompt": "Hi</s>", "answer": "a"})
    closed, own = load_dataset(cfg, byte_tokenizer("<s> $A </s>")).train
    assert closed.tokens.tolist()[0] == 256 and 257 not in closed.tokens
    assert own.tokens.tolist()[-1] == 257  # the one in the user's text stays


def test_chat_template_system_message_and_template_are_applied(cfg: Config, write: Callable[..., str]) -> None:
    write({"q": "1+1?", "answer": "2", "hint": "{prompt}"})
    cfg.data.chat, cfg.data.prompt_key, cfg.data.system = True, "q", "Be brief."
    cfg.data.template = r"{prompt} ({hint}) Answer in \boxed{} or {x}."
    prompt = load_dataset(cfg, byte_tokenizer(chat_template=CHAT)).train[0]
    # inserted text is not templated again, and other braces stay
    assert prompt.text == r"<s>[system]Be brief.[user]1+1? ({prompt}) Answer in \boxed{} or {x}.[assistant]"


def test_the_template_is_applied_to_the_last_user_message(cfg: Config, write: Callable[..., str]) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    write({"prompt": turns, "answer": "2"})
    cfg.data.chat, cfg.data.template = True, "<{prompt}>"
    prompt = load_dataset(cfg, byte_tokenizer(chat_template=CHAT)).train[0]
    assert prompt.text == "<s>[user]a[assistant]b[user]<c>[assistant]"
    assert prompt.row["prompt"] == turns


def test_the_row_carries_all_columns_but_the_answer(cfg: Config, write: Callable[..., str]) -> None:
    write({"prompt": "p", "answer": "a", "level": 3, "tags": ["x"]})
    assert load_dataset(cfg, byte_tokenizer()).train[0].row == {"prompt": "p", "level": 3, "tags": ["x"]}


def test_gsm8k_needs_three_settings(cfg: Config, project: Path) -> None:
    cfg.data.train = cfg.data.eval = str(project / "tests/data/gsm8k_sample.jsonl")
    cfg.data.prompt_key, cfg.data.answer_key, cfg.data.answer_regex = "question", "answer", r"####\s*(.+)"
    cfg.eval.prompts = 3
    dataset = load_dataset(cfg, byte_tokenizer())
    assert len(dataset.train) + dataset.dropped_train == 50
    assert all(prompt.answer.replace(",", "").lstrip("-").isdigit() for prompt in dataset.train)
    assert [prompt.index for prompt in dataset.eval] == [len(dataset.train) + i for i in range(3)]


def test_the_default_tasks_data_is_loaded_in_the_same_way(
    project: Path, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    cfg = make_config()
    dataset = load_dataset(cfg, load_tokenizer(cfg.model))
    assert len(dataset.train) == 2048 and dataset.dropped_train == dataset.dropped_eval == 0
    assert [prompt.index for prompt in (dataset.train[0], dataset.train[-1], dataset.eval[0])] == [0, 2047, 2048]
    first = dataset.train[0]
    assert first.tokens[0] == 1 and len(first.tokens) == len(first.text.split()) + 1


def test_the_last_match_of_the_answer_regex_counts(cfg: Config, write: Callable[..., str]) -> None:
    write({"prompt": "p", "answer": "#### 1\n#### 1,234 \n"})
    cfg.data.answer_regex = r"####\s*(.+)"
    assert load_dataset(cfg, byte_tokenizer()).train[0].answer == "1,234"


@pytest.mark.parametrize(("value", "text"), [("x", "x"), (45, "45"), (45.0, "45"), (0.5, "0.5"), (True, "True"), (1e22, "1e+22")])
def test_answers_become_text(cfg: Config, write: Callable[..., str], value: Any, text: str) -> None:
    write({"prompt": "p", "answer": value})
    assert load_dataset(cfg, byte_tokenizer()).train[0].answer == text


def test_a_parquet_column_of_numbers_with_a_gap_gives_whole_numbers(cfg: Config, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["p"], "answer": [7.0]}), tmp_path / "a.parquet")
    cfg.data.train = str(tmp_path / "a.parquet")
    assert load_dataset(cfg, byte_tokenizer()).train[0].answer == "7"


def test_long_prompts_are_dropped_counted_and_the_rest_numbered_without_gaps(cfg: Config, write: Callable[..., str]) -> None:
    cfg.data.eval = write({"prompt": "a" * 50, "answer": "1"}, {"prompt": "b", "answer": "2"}, {"prompt": "cc", "answer": "3"})
    cfg.data.max_prompt_tokens = 3  # with <s>
    dataset = load_dataset(cfg, byte_tokenizer())
    assert [(p.index, p.answer) for p in dataset.train + dataset.eval] == [(0, "2"), (1, "3"), (2, "2"), (3, "3")]
    assert (dataset.dropped_train, dataset.dropped_eval) == (1, 1)


def test_the_error_names_the_shortest_prompt_if_all_are_dropped(cfg: Config, write: Callable[..., str]) -> None:
    write({"prompt": "abcd", "answer": "1"}, {"prompt": "abc", "answer": "2"})
    cfg.data.max_prompt_tokens = 3
    said = complaint(lambda: load_dataset(cfg, byte_tokenizer()))
    assert "all 2 prompts are longer than data.max_prompt_tokens=3; the shortest has 4 tokens" in said


GOOD = {"prompt": "p", "answer": "a"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, {"question": "p", "answer": "a"}], "row 2: no column 'prompt' (data.prompt_key); there are 'question', 'answer'"),
        ([GOOD, {"prompt": "p", "solution": "a"}], "row 2: no column 'answer' (data.answer_key); there are 'prompt', 'solution'"),
        ([{**GOOD, "answer": None}], "row 1: the answer in 'answer' is NoneType None; expected text, a number, or a list of accepted"),
        ([{**GOOD, "answer": [["a"]]}], "row 1: the answer in 'answer' is list ['a']"),
        ([{**GOOD, "answer": float("nan")}], "row 1: the answer in 'answer' is float nan, which no response can give"),
        ([{**GOOD, "answer": float("-inf")}], "row 1: the answer in 'answer' is float -inf"),
        ([GOOD, {**GOOD, "answer": ""}], "row 2: the answer is empty"),
        ([GOOD, {**GOOD, "answer": " \u200b\n"}], "row 2: the answer is empty"),
        ([GOOD, {**GOOD, "answer": ["a", " "]}], "row 2: the answer is empty"),
        ([GOOD, {**GOOD, "answer": []}], "row 2: the answer in 'answer' is an empty list"),
        ([GOOD, {**GOOD, "prompt": "\ufeff\u200b"}], "row 2: the prompt is empty"),
        ([GOOD, {**GOOD, "prompt": "x \ud83d y"}], "row 2: the prompt holds half of an emoji or of another rare character, \\ud83d"),
        ([GOOD, {**GOOD, "answer": "\ude00"}], "row 2: the answer holds half of an emoji"),
        ([GOOD, {**GOOD, "prompt": " \n"}], "row 2: the prompt is empty"),
        ([{**GOOD, "prompt": None}], "row 1: the prompt is NoneType None; expected text or a list of chat messages"),
        ([{**GOOD, "prompt": [{"role": "user", "content": "x"}]}], "row 1: prompt holds chat messages, which need data.chat=true"),
    ],
)
def test_a_bad_row_is_named(cfg: Config, write: Callable[..., str], rows: list[Any], message: str) -> None:
    write(*rows)
    said = complaint(lambda: load_dataset(cfg, byte_tokenizer()))
    assert said.startswith("data.train: ") and message in said


@pytest.mark.parametrize(
    ("prompt", "system", "message"),
    [
        ([], None, "the prompt is list []"),
        ([{"role": "user"}], None, "is no chat message; expected"),
        ([{"role": "user", "content": ["x"]}], None, "is no chat message"),
        ([{"role": "assistant", "content": "x"}], None, "no user message"),
        ([{"role": "system", "content": "x"}, {"role": "user", "content": "x"}], "y", "the row already has a system message"),
    ],
)
def test_bad_chat_messages_are_named(cfg: Config, write: Callable[..., str], prompt: Any, system: str | None, message: str) -> None:
    write({"prompt": prompt, "answer": "a"})
    cfg.data.chat, cfg.data.system, cfg.data.template = True, system, "{prompt}!"
    said = complaint(lambda: load_dataset(cfg, byte_tokenizer(chat_template=CHAT)))
    assert said.startswith("data.train: ") and "row 1: " in said and message in said


def test_a_chat_template_that_refuses_a_row_is_named_with_it(cfg: Config, write: Callable[..., str]) -> None:
    write(GOOD, {"prompt": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}], "answer": "a"})
    cfg.data.chat = True
    picky = "{% if messages|length > 1 %}{{ raise_exception('roles must alternate') }}{% endif %}x"
    said = complaint(lambda: load_dataset(cfg, byte_tokenizer(chat_template=picky)))
    assert "row 2: the model's chat template rejects it: roles must alternate" in said


def test_a_model_without_a_chat_template_is_an_error_with_advice(cfg: Config, write: Callable[..., str]) -> None:
    write(GOOD)
    cfg.data.chat = True
    assert "set data.chat=false or take a model that has one" in complaint(lambda: load_dataset(cfg, byte_tokenizer()))


def test_a_system_message_without_a_chat_template_is_an_error(cfg: Config, write: Callable[..., str]) -> None:
    write(GOOD)
    cfg.data.system = "Be brief."
    assert "data.system needs the chat template, and data.chat=false" in complaint(lambda: load_dataset(cfg, byte_tokenizer()))


def test_a_template_that_makes_all_prompts_equal_or_tells_the_answer_is_refused(cfg: Config, write: Callable[..., str]) -> None:
    write({**GOOD, "hint": "h"})
    cfg.data.template = "Solve {it}."
    assert "names neither {prompt} nor a column (answer, hint, prompt)" in complaint(lambda: load_dataset(cfg, byte_tokenizer()))
    cfg.data.template = r"{prompt} Put it in \boxed{answer}."
    assert "would put the reference answer, {answer}, into the prompt" in complaint(lambda: load_dataset(cfg, byte_tokenizer()))
    cfg.data.template = "{hint}"
    assert load_dataset(cfg, byte_tokenizer()).train[0].text == "h"


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        (r"####\s*(.+)", "row 2: data.answer_regex '####\\\\s*(.+)' finds nothing in 'no mark'"),
        (r"(", "data.answer_regex: '(' is no regular expression: "),
        (r"####.+", "has no group; put ( ) around the answer"),
    ],
)
def test_an_answer_regex_that_does_not_work_is_named(cfg: Config, write: Callable[..., str], regex: str, message: str) -> None:
    write({"prompt": "p", "answer": "#### 4"}, {"prompt": "p", "answer": "no mark"})
    cfg.data.answer_regex = regex
    assert message in complaint(lambda: load_dataset(cfg, byte_tokenizer()))


def test_words_that_the_tokenizer_does_not_know_are_named_with_their_row(cfg: Config, write: Callable[..., str], project: Path) -> None:
    write({"prompt": "1 2 3 : 4 =", "answer": "4"}, {"prompt": "one and two", "answer": "3"})
    cfg.model.path = str(project / "assets/countdown")
    assert "row 2: the model's tokenizer cannot encode 'one and two'" in complaint(lambda: load_dataset(cfg, load_tokenizer(cfg.model)))
