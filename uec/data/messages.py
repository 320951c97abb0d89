"""Read a row's chat messages, in the forms of OpenAI, Qwen and transformers: parts, images inside parts, tool calls, JSON text."""

import ast
import json
import re
from dataclasses import dataclass, field
from typing import Any

from uec.brief import describe, is_blank
from uec.errors import BadInput

IMAGE = "<image>"
"""Marks an image in a row's text and in `data.template`."""

Messages = list[dict[str, Any]]
"""Chat messages: role and content. The content is text with IMAGE marks, until `split_at_images`."""

ASSISTANTS = ("assistant", "model", "gpt", "bot", "ai", "chatbot")
TEXT_PARTS = ("text", "input_text", "output_text", None)
IMAGE_PARTS = ("image", "image_url", "input_image", None)
IMAGE_KEYS = ("image", "image_url", "url", "path", "base64", "bytes", "source", "data")
MESSAGES_AS_TEXT = re.compile(r"""\s*\[\s*\{\s*(["'])(role|content|from|value)\1\s*:""")


@dataclass
class Conversation:
    """The messages of a row, and the images that their parts hold, in the order of their marks."""

    messages: Messages
    images: list[Any] = field(default_factory=list)
    stripped: Any = None  # the messages as the row has them, without the images; None if their parts hold none


def read_messages(value: Any, where: str, with_images: bool) -> Conversation:
    """Return a row's messages, from text or a list. Raises BadInput. `with_images`: the model reads images."""
    value = from_text(value, where)
    if isinstance(value, str):
        return Conversation([{"role": "user", "content": value}])
    if not isinstance(value, list) or not value:
        raise BadInput(f"{where}: the prompt is {describe(value)}; expected text or a list of chat messages")
    images: list[Any] = []
    messages = [_message(message, images, where, with_images) for message in value]
    return Conversation(messages, images, [_without_images(message) for message in value] if images else None)


def from_text(value: Any, where: str) -> Any:
    """Return the messages that a text holds as JSON, or as Python writes a list (a CSV file of pandas); any other value unchanged."""
    if not isinstance(value, str) or not MESSAGES_AS_TEXT.match(value):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise BadInput(
            f"{where}: the prompt begins like chat messages as text, and is no JSON: {describe(value)}; write it with json.dumps"
        ) from None


def holds_images(value: Any) -> bool:
    """Return whether a value of the prompt column has messages with images inside their parts."""
    if isinstance(value, str):
        if not MESSAGES_AS_TEXT.match(value):
            return False
        try:
            value = from_text(value, "")
        except BadInput:
            return False
    if not isinstance(value, list):
        return False
    contents = [message.get("content") for message in value if isinstance(message, dict)]
    return any(_image_of(part) is not None for content in contents if isinstance(content, list) for part in content)


def check_end(messages: Messages, may_continue: bool, where: str) -> bool:
    """Return whether the response continues the last message. Raises BadInput for another last message of the assistant."""
    last = messages[-1]
    if last["role"].strip().lower() not in ASSISTANTS:
        return False
    if not may_continue:
        raise BadInput(
            f"{where}: the last of the chat messages is the assistant's, and the model would read the solution in it before it answers; "
            "remove this message from the row, or set data.continue_final_message=true if the response is to continue it"
        )
    if is_blank(last["content"]):
        raise BadInput(f"{where}: the last message is the assistant's and empty, so that there is nothing to continue; remove it")
    return True


def _message(message: Any, images: list[Any], where: str, with_images: bool) -> dict[str, Any]:
    """Return a message with its content as text."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list) and content:
        content = "".join(_part_text(part, images, where, with_images) for part in content)
    if content is None and isinstance(message, dict) and (message.get("tool_calls") or message.get("function_call")):
        content = ""  # OpenAI's form: null beside tool calls
    if not isinstance(content, str) or not isinstance(message.get("role"), str):
        raise BadInput(f'{where}: {describe(message)} is no chat message; expected {{"role": "user", "content": "..."}}')
    # A table gives each message the keys of all others, with null, and templates ask whether a key is there.
    return {**without_null(message), "content": content}


def without_null(value: Any) -> Any:
    """Return the value without the keys that are null: tables add them where another row has the key."""
    if isinstance(value, dict):
        return {key: without_null(each) for key, each in value.items() if each is not None}
    return [without_null(each) for each in value] if isinstance(value, list) else value


def _image_of(part: Any) -> Any:
    """Return the image that a part holds, in a form that `find_images` reads; None for another part."""
    if not isinstance(part, dict) or part.get("type") not in IMAGE_PARTS:
        return None
    value = next((part[key] for key in IMAGE_KEYS if part.get(key)), None)
    if isinstance(value, dict) and "url" in value:  # {"type": "image_url", "image_url": {"url": ...}}
        return value["url"] or None
    if isinstance(value, dict) and value.get("data"):  # {"type": "image", "source": {"type": "base64", "data": ...}}
        return value["data"]
    return value


def _part_text(part: Any, images: list[Any], where: str, with_images: bool) -> str:
    kind = part.get("type") if isinstance(part, dict) else ""
    if isinstance(part, dict) and kind in TEXT_PARTS and isinstance(part.get("text"), str) and _image_of(part) is None:
        return str(part["text"])
    image = _image_of(part)
    if image is not None or kind in IMAGE_PARTS[:-1]:
        if not with_images:
            raise BadInput(f"{where}: {describe(part)} in a chat message, and the model reads text only; take a vision-language model")
        if image is not None:
            images.append(image)
        if image is not None or kind == "image":
            return IMAGE
    raise BadInput(
        f'{where}: {describe(part)} is no chat message\'s part; expected {{"type": "text", "text": "..."}}, or '
        '{"type": "image", "image": "..."}, or {"type": "image"} with the image itself in the column data.image_key'
    )


def _without_images(message: Any) -> Any:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [{"type": "image"} if _image_of(part) is not None else part for part in content]}
