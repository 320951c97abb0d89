"""Load the prompts of a run: template and tokenise rows, decode their images, check and number the prompts."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from uec.config.schema import Config, DataConfig
from uec.data.dataset import Dataset
from uec.data.embedded_images import file_name
from uec.data.image_file import Source, find_images, holds_bytes
from uec.data.image_sizes import measure_images
from uec.data.row_reader import RowReader
from uec.data.tables import Row, Table, load_tables
from uec.data.template import check_template
from uec.errors import BadInput
from uec.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from uec.models.processor import Processor

Extract = Callable[[Any, str], str]
"""(value of the answer column, name of the row) -> reference answer."""

TOKENISER_BATCH = 2000


@dataclass(frozen=True)
class _Problem:
    """A row after templating."""

    where: str
    text: str  # with one image token per image
    answer: str
    images: list[Source]
    row: dict[str, Any]


def load_dataset(cfg: Config, tokenizer: "PreTrainedTokenizerBase", processor: "Processor | None" = None) -> Dataset:
    """Load data.train and data.eval; a vision-language model needs its `processor`.

    Raises BadInput with the field, the row and advice. Images that the data holds as bytes stay in memory until `write_images`.
    """
    data = cfg.data
    reader = RowReader(data, tokenizer, processor)
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
    """Load data.eval alone. A prompt's index is its row's number minus one, also where rows were dropped."""
    assert cfg.data.eval is not None
    embedded: dict[str, bytes] = {}
    reader, source = RowReader(cfg.data, tokenizer, processor), f"data.eval: {cfg.data.eval}"
    problems = _read(load_tables(cfg.data.eval, cfg.data.eval_split, "data.eval"), source, reader, cfg.eval.prompts)
    prompts = _prompts(problems, source, reader, 0, embedded, by_row=True)
    return Dataset([], prompts, 0, len(problems) - len(prompts), embedded)


def _read(tables: list[Table], source: str, reader: RowReader, limit: int | None = None) -> list[_Problem]:
    """Read the first `limit` rows."""
    data = reader.data
    rows = [(row, table.folder) for table in tables for row in table.rows][:limit]
    if data.template is not None:
        check_template(data.template, set(rows[0][0]), data.answer_key)
    key = data.image_key
    if reader.processor is not None and key is not None and not any(key in row for row, _ in rows):
        raise BadInput(
            f"{source}: no row has an image column {key!r} (data.image_key); there are {', '.join(map(repr, rows[0][0]))}. "
            "Name the right one, or set data.image_key=null if there are no images"
        )
    extract = _answer_extractor(data)
    problems = []
    for number, (row, folder) in enumerate(rows, 1):
        where = f"{source}, row {number}"
        _check_columns(row, data, where)
        answer = extract(row[data.answer_key], where)
        value = None if key is None else row.get(key)
        if reader.processor is None:
            _check_no_image(value, data, where)
        images = [] if reader.processor is None else find_images(value, folder, data.image, where)
        text = reader.read(row, len(images), where)
        omitted = {data.answer_key, key} if holds_bytes(value) else {data.answer_key}
        others = {column: value for column, value in row.items() if column not in omitted}
        problems.append(_Problem(where, text, answer, images, others))
    return problems


def _prompts(
    problems: list[_Problem], source: str, reader: RowReader, first: int, embedded: dict[str, bytes], by_row: bool = False
) -> list[Prompt]:
    """Return the prompts that are short enough, numbered from `first` or `by_row`. Adds images that are bytes to `embedded`."""
    tokens = _tokenise([problem.text for problem in problems], reader.tokenizer, source, with_special=not reader.data.chat)
    spans: list[tuple[tuple[int, int], ...]] = [()] * len(problems)
    if reader.processor is not None:
        tokens, spans = _expand(problems, tokens, reader.processor, reader.data)
    most = reader.data.max_prompt_tokens
    prompts: list[Prompt] = []
    for number, (problem, ids, places) in enumerate(zip(problems, tokens, spans, strict=True)):
        if len(ids) <= most:
            images = tuple(_name(image, embedded) for image in problem.images)
            array = np.asarray(ids, dtype=np.int32)
            index = first + (number if by_row else len(prompts))
            prompts.append(Prompt(index, problem.text, array, problem.answer, problem.row, images, places))
    if not prompts:
        hint = "; data.image.max_pixels limits the tokens of an image" if any(spans) else ""
        raise BadInput(
            f"{source}: all {len(problems)} prompts are longer than data.max_prompt_tokens={most}; "
            f"the shortest has {min(map(len, tokens))} tokens; raise it, or give shorter prompts{hint}"
        )
    return prompts


def _expand(
    problems: list[_Problem], tokens: list[list[int]], processor: "Processor", data: DataConfig
) -> tuple[list[list[int]], list[tuple[tuple[int, int], ...]]]:
    """Return each prompt's tokens with all image tokens, and their spans. Decodes every image."""
    named: dict[Source, str] = {}
    for problem in problems:
        for image in problem.images:
            named.setdefault(image, problem.where)
    sizes = measure_images(named, data.image)
    expanded, spans = [], []
    for problem, ids in zip(problems, tokens, strict=True):
        try:
            all_ids, places = processor.expand(ids, [sizes[image] for image in problem.images])
        except ValueError as error:
            raise BadInput(f"{problem.where}: {error}; crop the image, or remove the row") from error
        expanded.append(all_ids)
        spans.append(places)
    return expanded, spans


def _name(image: Source, embedded: dict[str, bytes]) -> str:
    """Return the image's path, or the name of the file that `write_images` will write."""
    if not isinstance(image, bytes):
        return str(image)
    name = file_name(image)
    embedded[name] = image
    return name


def _check_columns(row: Row, data: DataConfig, where: str) -> None:
    for key, field_name in ((data.prompt_key, "data.prompt_key"), (data.answer_key, "data.answer_key")):
        if key not in row:
            raise BadInput(f"{where}: no column {key!r} ({field_name}); there are {', '.join(map(repr, row)) or 'none'}")


def _check_no_image(value: Any, data: DataConfig, where: str) -> None:
    if value and not (isinstance(value, dict) and not any(value.values())):
        raise BadInput(
            f"{where}: there is an image in {data.image_key!r} (data.image_key), and the model reads text only; take a vision-language "
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
    """Return the answer as text. A whole float is written as an integer, because a column with gaps stores integers as floats."""
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
        "The reward function receives other columns, of any type, unchanged"
    )


def _tokenise(texts: list[str], tokenizer: "PreTrainedTokenizerBase", source: str, with_special: bool) -> list[list[int]]:
    """Return token ids. A chat template writes its special tokens itself; `with_special` adds those of the tokenizer to plain text."""
    tokens: list[list[int]] = []
    for start in range(0, len(texts), TOKENISER_BATCH):
        piece = texts[start : start + TOKENISER_BATCH]
        try:
            tokens += tokenizer(piece, add_special_tokens=with_special, verbose=False).input_ids
        except Exception as error:  # the Rust tokenizer raises plain Exception
            _raise_for_first(piece, start, tokenizer, source, error)
    for text, ids in zip(texts, tokens, strict=True):
        # The text already begins with the token that the tokenizer prepends.
        if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
            del ids[0]
        # Some tokenizers also append an end token, after which the model would generate nothing.
        if with_special and ids and ids[-1] == tokenizer.eos_token_id and not text.endswith(str(tokenizer.eos_token)):
            del ids[-1]
    return tokens


def _raise_for_first(texts: list[str], start: int, tokenizer: "PreTrainedTokenizerBase", source: str, cause: Exception) -> None:
    """Find the row because of which the batch failed."""
    for number, text in enumerate(texts, start + 1):
        try:
            tokenizer(text)
        except Exception as error:
            raise BadInput(f"{source}, row {number}: the model's tokenizer cannot encode {text[:80]!r}: {error}") from error
    raise cause
