"""From a row to what the model reads: the text template and the chat template."""

import re
from typing import Any

from uec.config import Data
from uec.data.source import Row
from uec.errors import BadInput

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")

Messages = list[dict[str, Any]]
"""Chat messages: role and content."""


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


def to_messages(value: Any, row: Row, cfg: Data, where: str) -> Messages:
    """Chat messages of a row: of its text, or of its own messages, whose last user turn the template goes around."""
    messages = [{"role": "user", "content": value}] if isinstance(value, str) else _check_messages(value, where)
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


def to_text(value: Any, row: Row, cfg: Data, where: str) -> str:
    """The templated prompt, where no chat template is applied."""
    if not isinstance(value, str):
        _check_messages(value, where)
        raise BadInput(f"{where}: {cfg.prompt_key} holds chat messages, which need data.chat=true")
    return value if cfg.template is None else fill(cfg.template, value, row)


def _check_messages(value: Any, where: str) -> Messages:
    if not isinstance(value, list) or not value:
        raise BadInput(f"{where}: the prompt is {_describe(value)}; expected text or a list of chat messages")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            raise BadInput(f"{where}: {_describe(message)} is no chat message; expected {{\"role\": \"user\", \"content\": \"...\"}}")
    return list(value)


def _describe(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
