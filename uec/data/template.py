"""Turn a row into text or chat messages: apply the text template and place the marks of images."""

import re
from typing import Any

from uec.config.schema import DataConfig
from uec.data.tables import Row
from uec.errors import BadInput

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")

IMAGE = "<image>"
"""Marks an image in a row's text and in `data.template`."""

IMAGE_KEYS = ("image", "image_url", "url", "path", "base64")

Messages = list[dict[str, Any]]
"""Chat messages: role and content. The content is text with IMAGE marks, until `split_at_images`."""


def fill(template: str, text: str, row: Row) -> str:
    """Replace `{prompt}` by `text` and `{column}` by that column's value. Other braces stay, and inserted text is not templated again."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name == "prompt":
            return text
        return str(row[name]) if name in row else match[0]

    return PLACEHOLDER.sub(replace, template)


def check_template(template: str, columns: set[str], answer_key: str) -> None:
    """Raise BadInput for a template that makes all prompts equal, or that inserts the reference answer."""
    names = set(PLACEHOLDER.findall(template))
    if answer_key in names & columns:
        raise BadInput(
            f"data.template: {template!r} would put the reference answer, {{{answer_key}}}, into the prompt; if the braces are "
            "literal, write another word between them"
        )
    if not names & (columns | {"prompt"}):
        there = ", ".join(sorted(columns))
        raise BadInput(f"data.template: {template!r} names neither {{prompt}} nor a column ({there}): all prompts would be equal")


def to_messages(value: Any, row: Row, cfg: DataConfig, where: str, with_images: bool = False) -> Messages:
    """Return a row's chat messages, from its text or its list of messages; the template is applied to the last user message.

    Content that is a list of parts becomes text. `with_images`: the model reads images.
    """
    messages = [{"role": "user", "content": value}] if isinstance(value, str) else _check_messages(value, where, with_images)
    if cfg.template is not None:
        last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
        if last is None:
            raise BadInput(f"{where}: no user message, to which data.template could be applied")
        messages[last] = {**messages[last], "content": fill(cfg.template, messages[last]["content"], row)}
    if cfg.system is not None:
        if messages[0]["role"] == "system":
            raise BadInput(f"{where}: the row already has a system message; remove data.system or the row's message")
        messages = [{"role": "system", "content": cfg.system}, *messages]
    return messages


def to_text(value: Any, row: Row, cfg: DataConfig, where: str) -> str:
    """Return the templated prompt, for data.chat=false."""
    if not isinstance(value, str):
        _check_messages(value, where, with_images=True)
        raise BadInput(f"{where}: {cfg.prompt_key} holds chat messages, which need data.chat=true")
    return value if cfg.template is None else fill(cfg.template, value, row)


def place_images(messages: Messages, images: int, where: str) -> Messages:
    """Return messages with one IMAGE per image of the row: where the text has them, or before the first user message if it has none."""
    marks = sum(message["content"].count(IMAGE) for message in messages)
    if marks == images:
        return messages
    first = next((i for i, message in enumerate(messages) if message["role"] == "user"), None)
    if marks or first is None:
        raise BadInput(f"{where}: {marks} x {IMAGE} in the text, and {images} images; expected one for each, or none in the text")
    before = {**messages[first], "content": IMAGE * images + messages[first]["content"]}
    return [*messages[:first], before, *messages[first + 1 :]]


def split_at_images(messages: Messages) -> Messages:
    """Split content into the parts that vision-language chat templates expect: {"type": "image"} and {"type": "text", "text": ...}."""
    return [{**message, "content": _parts(message["content"])} for message in messages]


def _parts(content: str) -> list[dict[str, str]]:
    texts = content.split(IMAGE)
    parts: list[dict[str, str]] = []
    for i, text in enumerate(texts):
        parts += [{"type": "image"}] * (i > 0) + [{"type": "text", "text": text}] * (text != "" or len(texts) == 1)
    return parts


def _check_messages(value: Any, where: str, with_images: bool) -> Messages:
    if not isinstance(value, list) or not value:
        raise BadInput(f"{where}: the prompt is {_describe(value)}; expected text or a list of chat messages")
    messages = []
    for message in value:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and content:
            content = "".join(_part_text(part, where, with_images) for part in content)
        if not isinstance(content, str) or not isinstance(message.get("role"), str):
            raise BadInput(f'{where}: {_describe(message)} is no chat message; expected {{"role": "user", "content": "..."}}')
        messages.append({**message, "content": content})
    return messages


def _part_text(part: Any, where: str, with_images: bool) -> str:
    match part:
        case {"type": "text", "text": str() as text}:
            return text
        case {"type": "image"} if not with_images:
            raise BadInput(f"{where}: {_describe(part)} in a chat message, and the model reads text only; take a vision-language model")
        case {"type": "image"} if not any(part.get(key) for key in IMAGE_KEYS):
            return IMAGE
    raise BadInput(
        f'{where}: {_describe(part)} is no chat message\'s part; expected {{"type": "text", "text": "..."}}, or '
        '{"type": "image"} with the image itself in the column data.image_key'
    )


def _describe(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
