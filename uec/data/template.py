"""Turn a row into text or chat messages: apply the text template and place the marks of images."""

import re
from typing import Any

from uec.brief import brief, is_blank
from uec.config.schema import DataConfig
from uec.data.columns import MISSING, Row, lookup
from uec.data.messages import IMAGE, Conversation, Messages, from_text, read_messages
from uec.errors import BadInput

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def fill(template: str, text: str, row: Row) -> str:
    """Replace `{prompt}` by `text`, and `{column}` or `{column.field}` by its value.

    Other braces stay, and inserted text is not templated again.
    """

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name == "prompt":
            return text
        value = lookup(row, name)
        return match[0] if value is MISSING else str(value)

    return PLACEHOLDER.sub(replace, template)


def check_template(template: str, row: Row, answer_key: str) -> None:
    """Raise BadInput for a template that makes all prompts equal, or that inserts the reference answer. `row`: the first one."""
    names = {name for name in PLACEHOLDER.findall(template) if name == "prompt" or lookup(row, name) is not MISSING}
    for name in sorted(names - {"prompt"}):
        if answer_key == name or answer_key.startswith(f"{name}."):
            raise BadInput(
                f"data.template: {brief(template, 200)} would put the reference answer, {{{name}}}, into the prompt; if the braces are "
                "literal, write another word between them"
            )
    if not names:
        there = ", ".join(sorted(row))[:300]
        raise BadInput(f"data.template: {brief(template, 200)} names neither {{prompt}} nor a column ({there}): all prompts would be equal")


def to_conversation(value: Any, row: Row, cfg: DataConfig, where: str, with_images: bool = False) -> Conversation:
    """Return a row's chat messages, from its text or its list of messages; the template is applied to the last user message.

    Content that is a list of parts becomes text. `with_images`: the model reads images.
    """
    conversation = read_messages(value, where, with_images)
    messages = conversation.messages
    if all(is_blank(message["content"]) for message in messages if message["role"] != "system"):
        raise BadInput(f"{where}: the prompt is empty; fill it, or remove the row")
    if cfg.template is not None:
        last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
        if last is None:
            raise BadInput(f"{where}: no user message, to which data.template could be applied")
        messages[last] = {**messages[last], "content": fill(cfg.template, messages[last]["content"], row)}
    if cfg.system is not None:
        if messages[0]["role"] == "system":
            raise BadInput(f"{where}: the row already has a system message; remove data.system or the row's message")
        conversation.messages = [{"role": "system", "content": cfg.system}, *messages]
    return conversation


def to_text(value: Any, row: Row, cfg: DataConfig, where: str) -> str:
    """Return the templated prompt, for data.chat=false."""
    value = from_text(value, where)
    if not isinstance(value, str):
        read_messages(value, where, with_images=True)
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
