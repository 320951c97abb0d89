"""Render a row's prompt as the model reads it: templated, with one image token per image."""

import json
import re
from itertools import cycle
from typing import TYPE_CHECKING, Any

from uec.brief import brief, check_characters, describe, is_blank
from uec.config.schema import DataConfig
from uec.data.columns import MISSING, Row, lookup
from uec.data.messages import IMAGE, Conversation, Messages, check_end, without_null
from uec.data.template import place_images, split_at_images, to_conversation, to_text
from uec.errors import BadInput

Tools = list[Any]
"""JSON schemas of functions."""

RESERVED = ("messages", "tools", "chat_template", "tokenize", "add_generation_prompt", "continue_final_message", "conversation")
"""Arguments that a run gives the chat template."""

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from uec.models.processor import Processor


class RowReader:
    """Renders rows for one model; a model without a processor is a text model."""

    def __init__(self, data: DataConfig, tokenizer: "PreTrainedTokenizerBase", processor: "Processor | None") -> None:
        """Raise BadInput if `data` needs a chat template that the model lacks."""
        self.data = data
        self.tokenizer = tokenizer
        self.processor = processor
        self.chat_template = None if processor is None else processor.chat_template  # None: the tokenizer's
        if data.chat and not (self.chat_template or tokenizer.chat_template):
            raise BadInput(
                "data.chat=true, but the model's tokenizer has no chat template; set data.chat=false or take a model that has one"
            )
        if data.system is not None and not data.chat:
            raise BadInput("data.system needs the chat template, and data.chat=false; put its text into data.template instead")
        if processor is not None:
            self._placeholder = processor.placeholder
            self._takes_parts = data.chat and self._renders_parts(processor.image_token)
            marks = tokenizer.convert_ids_to_tokens(processor.vision_tokens())
            self._mark = re.compile("|".join(map(re.escape, marks)))
        self._check_arguments()

    def conversation(self, row: Row, where: str) -> Conversation | None:
        """Return a row's chat messages, with the images in their parts; None for plain text. Raises BadInput, with `where`."""
        value = lookup(row, self.data.prompt_key)
        if isinstance(value, str) and is_blank(value):
            raise BadInput(f"{where}: the prompt is empty; fill it, or remove the row")
        return to_conversation(value, row, self.data, where, with_images=self.processor is not None) if self.data.chat else None

    def read(self, row: Row, conversation: Conversation | None, images: int, where: str) -> str:
        """Return the text of a row with `images` images. Raises BadInput, with `where`, for a value that cannot be a prompt."""
        text = self._plain(row, images, where) if conversation is None else self._chat(row, conversation.messages, images, where)
        check_characters(text, "the prompt", where)
        return text

    def _plain(self, row: Row, images: int, where: str) -> str:
        text = to_text(lookup(row, self.data.prompt_key), row, self.data, where)
        if self._tools(row, where) is not None and f"{{{self.data.tools_key}" not in (self.data.template or ""):
            raise BadInput(
                f"{where}: the row has tools in {self.data.tools_key!r} (data.tools_key), which need data.chat=true; set it, put them into "
                "data.template, or set data.tools_key=null to leave them out"
            )
        return text if self.processor is None else self._place([{"role": "user", "content": text}], images, where)[0]["content"]

    def _chat(self, row: Row, messages: Messages, images: int, where: str) -> str:
        continues = check_end(messages, self.data.continue_final_message, where)
        tools = self._tools(row, where)
        if self.processor is not None:
            messages = self._place(messages, images, where)
        try:
            text = self.render(messages, tools, continues=continues, opened=not continues)
            ignored = tools is not None and text == self.render(messages, None, continues=continues, opened=not continues)
        except Exception as error:  # a template is the model author's code and may raise any exception
            raise BadInput(f"{where}: the model's chat template rejects it: {str(error)[:300]}") from error
        if ignored:
            raise BadInput(
                f"{where}: the row has tools in {self.data.tools_key!r} (data.tools_key), and the model's chat template shows none to the "
                "model; take a model whose template does, or set data.tools_key=null to leave them out"
            )
        if self.processor is not None and (written := text.count(self.processor.image_token)) != images:
            raise BadInput(
                f"{where}: the model's chat template writes {written} image tokens for {images} images; "
                "set data.chat=false and put the whole prompt into data.template"
            )
        return text

    def _tools(self, row: Row, where: str) -> Tools | None:
        """Return the tools of a row, None for none."""
        key = self.data.tools_key
        value = None if key is None else lookup(row, key)
        if isinstance(value, str) and value.strip():
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                pass
        if value is MISSING or not value or value == "null" or (isinstance(value, str) and is_blank(value)):
            return None
        if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
            raise BadInput(
                f"{where}: the tools in {key!r} (data.tools_key) are {describe(value)}; expected a list of JSON schemas of functions, or "
                "data.tools_key=null if the column is something else"
            )
        return [without_null(tool) for tool in value]

    def _place(self, messages: Messages, images: int, where: str) -> Messages:
        for message in messages:
            for text in message["content"].split(IMAGE):
                if found := self._mark.search(text):
                    raise BadInput(
                        f"{where}: the text holds {found[0]!r}, which the model reads as the mark of an image; "
                        f"remove it, or write {IMAGE} where an image of the row belongs"
                    )
        messages = place_images(messages, images, where)
        if self._takes_parts:
            return split_at_images(messages)
        return [{**message, "content": message["content"].replace(IMAGE, self._placeholder)} for message in messages]

    def turns(self, *texts: str) -> Messages:
        """Return messages of user and assistant in turn, as the chat template takes them."""
        messages = [{"role": role, "content": text} for role, text in zip(cycle(("user", "assistant")), texts, strict=False)]
        return split_at_images(messages) if self.processor is not None and self._takes_parts else messages

    def render(self, messages: Messages, tools: Tools | None = None, *, continues: bool = False, opened: bool = True) -> str:
        """Return the messages as text. `opened`: with the beginning of the assistant's turn; `continues`: the last turn stays open."""
        return str(
            self.tokenizer.apply_chat_template(
                messages,
                tools=tools,
                chat_template=self.chat_template,
                tokenize=False,
                add_generation_prompt=opened,
                continue_final_message=continues,
                **self.data.chat_template_kwargs,
            )
        )

    def _check_arguments(self) -> None:
        """Raise BadInput for an argument of `data.chat_template_kwargs` that the chat template does not use, perhaps a typing error."""
        if not self.data.chat_template_kwargs:
            return
        if not self.data.chat:
            raise BadInput("data.chat_template_kwargs are arguments of the chat template, and data.chat=false; remove one of them")
        given = self.chat_template or self.tokenizer.chat_template or ""
        template = " ".join(given.values()) if isinstance(given, dict) else str(given)
        for name in self.data.chat_template_kwargs:
            if name in RESERVED or not re.search(rf"\b{re.escape(name)}\b", template):
                why = "is set by the run itself" if name in RESERVED else "is no argument of the model's chat template"
                raise BadInput(f"data.chat_template_kwargs: {brief(name, 60)} {why}; correct the name, or remove it")

    def _renders_parts(self, image_token: str) -> bool:
        """Return whether the chat template accepts content in parts, as nearly all vision-language models do; others accept text only."""
        try:
            text = self.render(split_at_images([{"role": "user", "content": f"{IMAGE}probe"}]))
        except Exception:  # it rejects parts
            return False
        return text.count(image_token) == 1 and "probe" in text and "{'type'" not in text
