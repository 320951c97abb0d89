"""The data sets of a run: rows are templated, tokenised, their pictures decoded, all checked and numbered."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from uec.config.schema import Config, DataConfig
from uec.data.dataset import Dataset
from uec.data.decode import decode
from uec.data.embedded import file_name
from uec.data.image import Source, find_pictures, holds_bytes
from uec.data.reader import Reader
from uec.data.source import Row, Table, load_tables
from uec.data.template import check_template
from uec.errors import BadInput
from uec.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from uec.models.processor import Processor

Extract = Callable[[Any, str], str]
"""(value of the answer column, which row) -> reference answer."""

TOKENISED_AT_ONCE = 2000




@dataclass(frozen=True)
class _Problem:
    """A row that was read."""

    where: str
    text: str  # with one image token a picture
    answer: str
    pictures: list[Source]
    row: dict[str, Any]


def load_dataset(cfg: Config, tokenizer: "PreTrainedTokenizerBase", processor: "Processor | None" = None) -> Dataset:
    """Load data.train and data.eval, for a vision-language model with its `processor`.

    Raises BadInput that names the field, the row and what to do. Pictures that come as bytes wait for `write_images`.
    """
    data = cfg.data
    reader = Reader(data, tokenizer, processor)
    embedded: dict[str, bytes] = {}
    tables = load_tables(data.train, data.train_split, "data.train")
    problems = _read(tables, f"data.train: {data.train}", reader)
    train = _prompts(problems, f"data.train: {data.train}", reader, 0, embedded)
    if data.eval is None:
        return Dataset(train, [], len(problems) - len(train), 0, embedded)
    tables = load_tables(data.eval, data.eval_split, "data.eval")
    eval_problems = _read(tables, f"data.eval: {data.eval}", reader, cfg.eval.prompts)
    held_out = _prompts(eval_problems, f"data.eval: {data.eval}", reader, len(train), embedded)
    return Dataset(train, held_out, len(problems) - len(train), len(eval_problems) - len(held_out), embedded)


def load_held_out(cfg: Config, tokenizer: "PreTrainedTokenizerBase", processor: "Processor | None" = None) -> Dataset:
    """As `load_dataset`, but data.eval alone; a prompt's index is then its row's number less one, whatever was dropped."""
    assert cfg.data.eval is not None
    embedded: dict[str, bytes] = {}
    reader, source = Reader(cfg.data, tokenizer, processor), f"data.eval: {cfg.data.eval}"
    problems = _read(load_tables(cfg.data.eval, cfg.data.eval_split, "data.eval"), source, reader, cfg.eval.prompts)
    prompts = _prompts(problems, source, reader, 0, embedded, by_row=True)
    return Dataset([], prompts, 0, len(problems) - len(prompts), embedded)


def _read(tables: list[Table], source: str, reader: Reader, limit: int | None = None) -> list[_Problem]:
    """The first `limit` rows."""
    data = reader.data
    rows = [(row, table.folder) for table in tables for row in table.rows][:limit]
    if data.template is not None:
        check_template(data.template, set(rows[0][0]), data.answer_key)
    key = data.image_key
    if reader.processor is not None and key is not None and not any(key in row for row, _ in rows):
        raise BadInput(
            f"{source}: no row has a column {key!r} (data.image_key) of pictures; there are {', '.join(map(repr, rows[0][0]))}. "
            "Name the right one, or set data.image_key=null if there are no pictures"
        )
    extract = _answer_extractor(data)
    problems = []
    for number, (row, folder) in enumerate(rows, 1):
        where = f"{source}, row {number}"
        _check_columns(row, data, where)
        answer = extract(row[data.answer_key], where)
        value = None if key is None else row.get(key)
        if reader.processor is None:
            _check_no_picture(value, data, where)
        pictures = [] if reader.processor is None else find_pictures(value, folder, data.image, where)
        text = reader.read(row, len(pictures), where)
        left_out = {data.answer_key, key} if holds_bytes(value) else {data.answer_key}
        others = {column: value for column, value in row.items() if column not in left_out}
        problems.append(_Problem(where, text, answer, pictures, others))
    return problems


def _prompts(
    problems: list[_Problem], source: str, reader: Reader, first: int, embedded: dict[str, bytes], by_row: bool = False
) -> list[Prompt]:
    """Those that are short enough, numbered from `first`, or `by_row`; their pictures that are bytes are put into `embedded`."""
    tokens = _tokenise([problem.text for problem in problems], reader.tokenizer, source, with_special=not reader.data.chat)
    spans: list[tuple[tuple[int, int], ...]] = [()] * len(problems)
    if reader.processor is not None:
        tokens, spans = _expand(problems, tokens, reader.processor, reader.data)
    most = reader.data.max_prompt_tokens
    prompts: list[Prompt] = []
    for number, (problem, ids, places) in enumerate(zip(problems, tokens, spans, strict=True)):
        if len(ids) <= most:
            images = tuple(_name(picture, embedded) for picture in problem.pictures)
            array = np.asarray(ids, dtype=np.int32)
            index = first + (number if by_row else len(prompts))
            prompts.append(Prompt(index, problem.text, array, problem.answer, problem.row, images, places))
    if not prompts:
        pictured = "; data.image.max_pixels bounds what a picture takes of them" if any(spans) else ""
        raise BadInput(
            f"{source}: all {len(problems)} prompts are longer than data.max_prompt_tokens={most}; "
            f"the shortest has {min(map(len, tokens))} tokens; raise it, or give shorter prompts{pictured}"
        )
    return prompts


def _expand(
    problems: list[_Problem], tokens: list[list[int]], processor: "Processor", data: DataConfig
) -> tuple[list[list[int]], list[tuple[tuple[int, int], ...]]]:
    """Each prompt's tokens with all its image tokens, and their spans; every picture is decoded for it."""
    named: dict[Source, str] = {}
    for problem in problems:
        for picture in problem.pictures:
            named.setdefault(picture, problem.where)
    sizes = decode(named, data.image)
    expanded, spans = [], []
    for problem, ids in zip(problems, tokens, strict=True):
        try:
            all_ids, places = processor.expand(ids, [sizes[picture] for picture in problem.pictures])
        except ValueError as error:
            raise BadInput(f"{problem.where}: {error}; crop the picture, or remove the row") from error
        expanded.append(all_ids)
        spans.append(places)
    return expanded, spans


def _name(picture: Source, embedded: dict[str, bytes]) -> str:
    """The picture's path, or the name of the file that it is going to be."""
    if not isinstance(picture, bytes):
        return str(picture)
    name = file_name(picture)
    embedded[name] = picture
    return name


def _check_columns(row: Row, data: DataConfig, where: str) -> None:
    for key, field_name in ((data.prompt_key, "data.prompt_key"), (data.answer_key, "data.answer_key")):
        if key not in row:
            raise BadInput(f"{where}: no column {key!r} ({field_name}); there are {', '.join(map(repr, row)) or 'none'}")


def _check_no_picture(value: Any, data: DataConfig, where: str) -> None:
    if value and not (isinstance(value, dict) and not any(value.values())):
        raise BadInput(
            f"{where}: there is a picture in {data.image_key!r} (data.image_key), and the model reads text only; take a vision-language "
            "model as model.path, or set data.image_key=null to train on the text alone"
        )


def _answer_extractor(data: DataConfig) -> Extract:
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
            raise BadInput(
                f"{where}: data.answer_regex {pattern.pattern!r} finds nothing in {answer[-80:]!r}; correct the pattern, or the row"
            )
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
