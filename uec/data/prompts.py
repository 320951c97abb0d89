"""The data sets of a run: rows are templated, tokenised, checked and numbered."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from uec.config import Config, Data
from uec.data.source import Row, load_rows
from uec.data.template import check_template, to_messages, to_text
from uec.errors import BadInput
from uec.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Extract = Callable[[Any, str], str]
"""(value of the answer column, which row) -> reference answer."""

TOKENISED_AT_ONCE = 2000


@dataclass(frozen=True)
class Dataset:
    train: list[Prompt]  # indices 0 .. n-1
    eval: list[Prompt]  # indices go on behind train's; empty where data.eval is not given
    dropped_train: int  # rows left out for having more than data.max_prompt_tokens
    dropped_eval: int


def load_dataset(cfg: Config, tokenizer: "PreTrainedTokenizerBase") -> Dataset:
    """Load data.train and data.eval. Raises BadInput that names the field, the row and what to do."""
    data = cfg.data
    _check_chat(data, tokenizer)
    rows = load_rows(data.train, data.train_split, "data.train")
    train = _prompts(rows, f"data.train: {data.train}", data, tokenizer, first=0)
    if data.eval is None:
        return Dataset(train, [], len(rows) - len(train), 0)
    eval_rows = load_rows(data.eval, data.eval_split, "data.eval")[: cfg.eval.prompts]
    held_out = _prompts(eval_rows, f"data.eval: {data.eval}", data, tokenizer, first=len(train))
    return Dataset(train, held_out, len(rows) - len(train), len(eval_rows) - len(held_out))


def _check_chat(data: Data, tokenizer: "PreTrainedTokenizerBase") -> None:
    if data.chat and not tokenizer.chat_template:
        raise BadInput("data.chat=true, but the model's tokenizer has no chat template; set data.chat=false or take a model that has one")
    if data.system is not None and not data.chat:
        raise BadInput("data.system needs the chat template, and data.chat=false; put its text into data.template instead")


def _prompts(rows: list[Row], source: str, data: Data, tokenizer: "PreTrainedTokenizerBase", first: int) -> list[Prompt]:
    """The rows that are short enough, numbered from `first`."""
    if data.template is not None:
        check_template(data.template, set(rows[0]), data.answer_key)
    extract = _answer_extractor(data)
    answers, texts = [], []
    for number, row in enumerate(rows, 1):
        where = f"{source}, row {number}"
        _check_columns(row, data, where)
        answers.append(extract(row[data.answer_key], where))
        texts.append(_read_prompt(row, data, tokenizer, where))
    tokens = _tokenise(texts, tokenizer, source, with_special=not data.chat)

    prompts: list[Prompt] = []
    for text, ids, answer, row in zip(texts, tokens, answers, rows, strict=True):
        if len(ids) <= data.max_prompt_tokens:
            others = {column: value for column, value in row.items() if column != data.answer_key}
            prompts.append(Prompt(first + len(prompts), text, np.asarray(ids, dtype=np.int32), answer, others))
    if not prompts:
        raise BadInput(
            f"{source}: all {len(rows)} prompts are longer than data.max_prompt_tokens={data.max_prompt_tokens}; "
            f"the shortest has {min(map(len, tokens))} tokens"
        )
    return prompts


def _check_columns(row: Row, data: Data, where: str) -> None:
    for key, field in ((data.prompt_key, "data.prompt_key"), (data.answer_key, "data.answer_key")):
        if key not in row:
            raise BadInput(f"{where}: no column {key!r} ({field}); there are {', '.join(map(repr, row)) or 'none'}")


def _read_prompt(row: Row, data: Data, tokenizer: "PreTrainedTokenizerBase", where: str) -> str:
    """What the model reads."""
    value = row[data.prompt_key]
    if isinstance(value, str) and not value.strip():
        raise BadInput(f"{where}: the prompt is empty")
    if not data.chat:
        return to_text(value, row, data, where)
    messages = to_messages(value, row, data, where)
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template is a program of the model's author and raises what it likes
        raise BadInput(f"{where}: the model's chat template refuses it: {error}") from error


def _answer_extractor(data: Data) -> Extract:
    pattern = None
    if data.answer_regex is not None:
        try:
            pattern = re.compile(data.answer_regex)
        except re.error as error:
            raise BadInput(f"data.answer_regex: {data.answer_regex!r} is no regular expression: {error}") from error
        if not pattern.groups:
            raise BadInput(f"data.answer_regex: {data.answer_regex!r} has no group; put ( ) around the answer")

    def extract(value: Any, where: str) -> str:
        answer = _as_text(value, data.answer_key, where)
        if pattern is None:
            return answer
        matches = list(pattern.finditer(answer))
        if not matches or matches[-1][1] is None:
            raise BadInput(f"{where}: data.answer_regex {pattern.pattern!r} finds nothing in {answer[-80:]!r}")
        return matches[-1][1].strip()

    return extract


def _as_text(value: Any, key: str, where: str) -> str:
    """Numbers as people write them: 45 for 45.0, which is what a column with gaps in it makes of an integer."""
    match value:
        case str():
            return value
        case bool() | int():
            return str(value)
        case float() if value.is_integer():
            return str(int(value))
        case float() if value == value:
            return repr(value)
    raise BadInput(
        f"{where}: the answer in {key!r} is {type(value).__name__}; expected text or a number. "
        "Other columns of any type are handed to the reward function as they are"
    )


def _tokenise(texts: list[str], tokenizer: "PreTrainedTokenizerBase", source: str, with_special: bool) -> list[list[int]]:
    """Token ids. A chat template writes its special tokens itself; a plain text gets those that the tokenizer adds."""
    tokens: list[list[int]] = []
    for start in range(0, len(texts), TOKENISED_AT_ONCE):
        piece = texts[start : start + TOKENISED_AT_ONCE]
        try:
            tokens += tokenizer(piece, add_special_tokens=with_special, verbose=False).input_ids
        except Exception as error:  # the Rust tokenizer raises plain Exception
            _raise_for_first(piece, start, tokenizer, source, error)
    for text, ids in zip(texts, tokens, strict=True):
        # A text that already begins with the token that the tokenizer puts before it.
        if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
            del ids[0]
        # Some tokenizers also add an end, behind which there would be nothing to generate.
        if with_special and ids and ids[-1] == tokenizer.eos_token_id and not text.endswith(str(tokenizer.eos_token)):
            del ids[-1]
    return tokens


def _raise_for_first(texts: list[str], start: int, tokenizer: "PreTrainedTokenizerBase", source: str, cause: Exception) -> None:
    """The batch failed: find the row that did."""
    for number, text in enumerate(texts, start + 1):
        try:
            tokenizer(text)
        except Exception as error:
            raise BadInput(f"{source}, row {number}: the model's tokenizer cannot encode {text[:80]!r}: {error}") from error
    raise cause
