"""Load the prompts of a run: template and tokenise rows, decode their images, check and number the prompts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uec.brief import brief, clipped, names
from uec.config.schema import Config, DataConfig
from uec.data.answers import read_answers
from uec.data.columns import MISSING, Row, lookup, top_column
from uec.data.dataset import Dataset
from uec.data.embedded_images import file_name
from uec.data.image_file import Source, find_images, holds_bytes
from uec.data.image_sizes import measure_images
from uec.data.messages import Conversation, holds_images
from uec.data.row_reader import RowReader
from uec.data.tables import Table, load_tables
from uec.data.template import check_template
from uec.errors import BadInput
from uec.rewards.answer_text import PROMPT_OPENS_THINK
from uec.types import Answer, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from uec.models.processor import Processor

TOKENISER_BATCH = 2000


@dataclass(frozen=True)
class _Problem:
    """A row after templating."""

    where: str
    text: str  # with one image token per image
    answer: Answer
    images: list[Source]
    row: dict[str, Any]


def load_dataset(cfg: Config, tokenizer: "PreTrainedTokenizerBase", processor: "Processor | None" = None) -> Dataset:
    """Load data.train and data.eval; a vision-language model needs its `processor`.

    Raises BadInput with the field, the row and advice. Images that the data holds as bytes stay in memory until `write_images`.
    """
    data = cfg.data
    embedded: dict[str, bytes] = {}
    with _short_messages():
        reader = RowReader(data, tokenizer, processor)
        problems = _read(load_tables(data.train, data.train_split, "data.train"), "data.train", reader)
        train = _prompts(problems, "data.train", reader, 0, embedded)
        if data.eval is None:
            return Dataset(train, [], len(problems) - len(train), 0, embedded)
        eval_problems = _read(load_tables(data.eval, data.eval_split, "data.eval"), "data.eval", reader, cfg.eval.prompts)
        held_out = _prompts(eval_problems, "data.eval", reader, len(train), embedded)
    return Dataset(train, held_out, len(problems) - len(train), len(eval_problems) - len(held_out), embedded)


def load_held_out(cfg: Config, tokenizer: "PreTrainedTokenizerBase", processor: "Processor | None" = None) -> Dataset:
    """Load data.eval alone. A prompt's index is its row's number minus one, also where rows were dropped."""
    assert cfg.data.eval is not None
    embedded: dict[str, bytes] = {}
    with _short_messages():
        reader = RowReader(cfg.data, tokenizer, processor)
        problems = _read(load_tables(cfg.data.eval, cfg.data.eval_split, "data.eval"), "data.eval", reader, cfg.eval.prompts)
        prompts = _prompts(problems, "data.eval", reader, 0, embedded, by_row=True)
    return Dataset([], prompts, 0, len(problems) - len(prompts), embedded)


@contextmanager
def _short_messages() -> Iterator[None]:
    try:
        yield
    except BadInput as error:
        raise type(error)(clipped(str(error))) from error.__cause__


def _read(tables: list[Table], field: str, reader: RowReader, limit: int | None = None) -> list[_Problem]:
    """Read the first `limit` rows."""
    data = reader.data
    rows = [
        (row, table.folder, f"{field}: {table.name}, row {number}")
        for table in tables
        for number, row in enumerate(table.rows, 1)
    ][:limit]  # fmt: skip
    first = rows[0][0]
    if data.template is not None:
        check_template(data.template, first, data.answer_key)
    for row, _, where in rows:
        _check_columns(row, data, where)
    key = data.image_key
    if (
        reader.processor is not None
        and key is not None
        and not any(lookup(row, key) is not MISSING or holds_images(lookup(row, data.prompt_key)) for row, _, _ in rows)
    ):
        raise BadInput(
            f"{field}: {tables[0].name}: no row has an image column {key!r} (data.image_key); there are {names(first)}. "
            "Name the right one, or set data.image_key=null if there are no images"
        )
    answers = read_answers([(lookup(row, data.answer_key), where) for row, _, where in rows], data)
    problems = []
    for (row, folder, where), answer in zip(rows, answers, strict=True):
        value = None if key is None else lookup(row, key)
        value = None if value is MISSING else value
        if reader.processor is None:
            _check_no_image(value, data, where)
        conversation = reader.conversation(row, where)
        images = [] if reader.processor is None else _images(value, conversation, folder, data, where)
        text = reader.read(row, conversation, len(images), where)
        others = _other_columns(row, conversation, value, data)
        if text.rstrip().endswith("<think>"):
            others = {**others, PROMPT_OPENS_THINK: True}
        problems.append(_Problem(where, text, answer, images, others))
    return problems


def _images(value: Any, conversation: Conversation | None, folder: Path | None, data: DataConfig, where: str) -> list[Source]:
    """Return a row's images, from the column or from the parts of its messages."""
    column = find_images(value, folder, data.image, where)
    if conversation is None or not conversation.images:
        return column
    inside = find_images(conversation.images, folder, data.image, where)
    if column and column != inside:
        raise BadInput(
            f"{where}: there are {len(column)} images in {data.image_key!r} (data.image_key) and {len(inside)} others in the chat "
            "messages; leave one of them out, or set data.image_key=null"
        )
    return inside


def _other_columns(row: Row, conversation: Conversation | None, images: Any, data: DataConfig) -> Row:
    """Return the columns for the reward function: all but the answer and images that the row itself holds."""
    omitted = {data.answer_key}
    if holds_bytes(images):
        omitted.add(top_column(row, str(data.image_key)))
    others = {column: value for column, value in row.items() if column not in omitted}
    if conversation is not None and holds_bytes(conversation.images) and data.prompt_key in others:
        others[data.prompt_key] = conversation.stripped
    return others


def _prompts(
    problems: list[_Problem], field: str, reader: RowReader, first: int, embedded: dict[str, bytes], by_row: bool = False
) -> list[Prompt]:
    """Return the prompts that are short enough, numbered from `first` or `by_row`. Adds images that are bytes to `embedded`."""
    tokens = _tokenise(problems, reader.tokenizer, with_special=not reader.data.chat)
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
        if any(problem.row.get(str(reader.data.tools_key)) for problem in problems):
            hint += "; the rows' tools are part of the prompts, unless data.tools_key=null"
        raise BadInput(
            f"{field}: all {len(problems)} prompts are longer than data.max_prompt_tokens={most}; "
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
        if lookup(row, key) is MISSING:
            raise BadInput(f"{where}: no column {brief(key)} ({field_name}); there are {names(_paths(row))}")


def _paths(row: Row) -> list[str]:
    """Return the columns, and the paths of the fields inside those that are objects."""
    paths = []
    for column, value in row.items():
        inside = [name for name, each in value.items() if each is not None] if isinstance(value, dict) else []
        paths += [column, *(f"{column}.{name}" for name in inside[:20])]
    return paths


def _check_no_image(value: Any, data: DataConfig, where: str) -> None:
    if value and not (isinstance(value, dict) and not any(value.values())):
        raise BadInput(
            f"{where}: there is an image in {data.image_key!r} (data.image_key), and the model reads text only; take a vision-language "
            "model as model.path, or set data.image_key=null to train on the text alone"
        )


def _tokenise(problems: list[_Problem], tokenizer: "PreTrainedTokenizerBase", with_special: bool) -> list[list[int]]:
    """Return token ids. A chat template writes its special tokens itself; `with_special` adds those of the tokenizer to plain text."""
    tokens: list[list[int]] = []
    for start in range(0, len(problems), TOKENISER_BATCH):
        piece = problems[start : start + TOKENISER_BATCH]
        try:
            tokens += tokenizer([problem.text for problem in piece], add_special_tokens=with_special, verbose=False).input_ids
        except Exception as error:  # the Rust tokenizer raises plain Exception
            _raise_for_first(piece, tokenizer, error)
    for problem, ids in zip(problems, tokens, strict=True):
        # The text already begins with the token that the tokenizer prepends.
        if len(ids) > 1 and ids[0] == ids[1] == tokenizer.bos_token_id:
            del ids[0]
        # Some tokenizers also append an end token, after which the model would generate nothing.
        if with_special and ids and ids[-1] == tokenizer.eos_token_id and not problem.text.endswith(str(tokenizer.eos_token)):
            del ids[-1]
    return tokens


def _raise_for_first(problems: list[_Problem], tokenizer: "PreTrainedTokenizerBase", cause: Exception) -> None:
    """Find the row because of which the batch failed."""
    for problem in problems:
        try:
            tokenizer(problem.text)
        except Exception as error:
            text = f"{problem.where}: the model's tokenizer cannot encode {brief(problem.text, 80)}: {str(error)[:300]}"
            raise BadInput(text) from error
    raise cause
