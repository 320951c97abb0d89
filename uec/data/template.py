"""From a row to what the model reads: the text template, chat messages, and where the pictures stand in them."""

import re
from typing import Any

from uec.config.schema import DataConfig
from uec.data.source import Row
from uec.errors import BadInput

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")

IMAGE = "<image>"
"""Stands for a picture in a row's text and in `data.template`."""

PICTURE_KEYS = ("image", "image_url", "url", "path", "base64")

Messages = list[dict[str, Any]]
"""Chat messages: role and content. The content is text with IMAGE where a picture stands, until `split_at_pictures`."""


def fill(template: str, text: str, row: Row) -> str:
    """`{prompt}` becomes `text`, `{column}` that column's value; other braces stay. What is put in is not looked at again."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name == "prompt":
            return text
        return str(row[name]) if name in row else match[0]

    return PLACEHOLDER.sub(replace, template)


def check_template(template: str, columns: set[str], answer_key: str) -> None:
    """Raises BadInput for a template that would make every prompt the same, or give the answer away."""
    names = set(PLACEHOLDER.findall(template))
    if answer_key in names & columns:
        raise BadInput(
            f"data.template: {template!r} would put the reference answer, {{{answer_key}}}, into the prompt; if braces are meant "
            "as such, write another word between them"
        )
    if not names & (columns | {"prompt"}):
        there = ", ".join(sorted(columns))
        raise BadInput(f"data.template: {template!r} names neither {{prompt}} nor a column ({there}): all prompts would be equal")


def to_messages(value: Any, row: Row, cfg: DataConfig, where: str, with_pictures: bool = False) -> Messages:
    """Chat messages of a row: of its text, or of its own messages, whose last user turn the template goes around.

    Content that is a list of parts becomes text; `with_pictures`: the model reads pictures, too.
    """
    messages = [{"role": "user", "content": value}] if isinstance(value, str) else _check_messages(value, where, with_pictures)
    if cfg.template is not None:
        last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
        if last is None:
            raise BadInput(f"{where}: no message of the user, which data.template would go around")
        messages[last] = {**messages[last], "content": fill(cfg.template, messages[last]["content"], row)}
    if cfg.system is not None:
        if messages[0]["role"] == "system":
            raise BadInput(f"{where}: the row has a system message of its own; remove data.system or the row's message")
        messages = [{"role": "system", "content": cfg.system}, *messages]
    return messages


def to_text(value: Any, row: Row, cfg: DataConfig, where: str) -> str:
    """The templated prompt, where no chat template is applied."""
    if not isinstance(value, str):
        _check_messages(value, where, with_pictures=True)
        raise BadInput(f"{where}: {cfg.prompt_key} holds chat messages, which need data.chat=true")
    return value if cfg.template is None else fill(cfg.template, value, row)


def place_pictures(messages: Messages, pictures: int, where: str) -> Messages:
    """With one IMAGE for each of a row's pictures: as they stand in the text, or before the first user turn where none does."""
    marks = sum(message["content"].count(IMAGE) for message in messages)
    if marks == pictures:
        return messages
    first = next((i for i, message in enumerate(messages) if message["role"] == "user"), None)
    if marks or first is None:
        raise BadInput(f"{where}: {marks} x {IMAGE} in the text, and {pictures} pictures; expected one for each, or none in the text")
    before = {**messages[first], "content": IMAGE * pictures + messages[first]["content"]}
    return [*messages[:first], before, *messages[first + 1 :]]


def split_at_pictures(messages: Messages) -> Messages:
    """Content as chat templates of vision-language models take it: a list of {"type": "image"} and {"type": "text", "text": ...}."""
    return [{**message, "content": _parts(message["content"])} for message in messages]


def _parts(content: str) -> list[dict[str, str]]:
    texts = content.split(IMAGE)
    parts: list[dict[str, str]] = []
    for i, text in enumerate(texts):
        parts += [{"type": "image"}] * (i > 0) + [{"type": "text", "text": text}] * (text != "" or len(texts) == 1)
    return parts


def _check_messages(value: Any, where: str, with_pictures: bool) -> Messages:
    if not isinstance(value, list) or not value:
        raise BadInput(f"{where}: the prompt is {_describe(value)}; expected text or a list of chat messages")
    messages = []
    for message in value:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and content:
            content = "".join(_part_text(part, where, with_pictures) for part in content)
        if not isinstance(content, str) or not isinstance(message.get("role"), str):
            raise BadInput(f'{where}: {_describe(message)} is no chat message; expected {{"role": "user", "content": "..."}}')
        messages.append({**message, "content": content})
    return messages


def _part_text(part: Any, where: str, with_pictures: bool) -> str:
    match part:
        case {"type": "text", "text": str() as text}:
            return text
        case {"type": "image"} if not with_pictures:
            raise BadInput(f"{where}: {_describe(part)} in a chat message, and the model reads text only; take a vision-language model")
        case {"type": "image"} if not any(part.get(key) for key in PICTURE_KEYS):
            return IMAGE
    raise BadInput(
        f'{where}: {_describe(part)} is no chat message\'s part; expected {{"type": "text", "text": "..."}}, or '
        '{"type": "image"} with the picture itself in the column data.image_key'
    )


def _describe(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
