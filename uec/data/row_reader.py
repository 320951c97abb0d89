"""Render a row's prompt as the model reads it: templated, with one image token per image."""

import re
from typing import TYPE_CHECKING

from uec.config.schema import DataConfig
from uec.data.tables import Row
from uec.data.template import IMAGE, Messages, place_images, split_at_images, to_messages, to_text
from uec.errors import BadInput

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

    def read(self, row: Row, images: int, where: str) -> str:
        """Return the text of a row with `images` images. Raises BadInput, with `where`, for a value that cannot be a prompt."""
        value = row[self.data.prompt_key]
        if isinstance(value, str) and not value.strip():
            raise BadInput(f"{where}: the prompt is empty; fill it, or remove the row")
        if not self.data.chat:
            text = to_text(value, row, self.data, where)
            return text if self.processor is None else self._place([{"role": "user", "content": text}], images, where)[0]["content"]
        messages = to_messages(value, row, self.data, where, with_images=self.processor is not None)
        if self.processor is not None:
            messages = self._place(messages, images, where)
        try:
            text = self._render(messages)
        except Exception as error:  # a template is the model author's code and may raise any exception
            raise BadInput(f"{where}: the model's chat template rejects it: {error}") from error
        if self.processor is not None and (written := text.count(self.processor.image_token)) != images:
            raise BadInput(
                f"{where}: the model's chat template writes {written} image tokens for {images} images; "
                "set data.chat=false and put the whole prompt into data.template"
            )
        return text

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

    def _render(self, messages: Messages) -> str:
        return str(
            self.tokenizer.apply_chat_template(messages, chat_template=self.chat_template, tokenize=False, add_generation_prompt=True)
        )

    def _renders_parts(self, image_token: str) -> bool:
        """Return whether the chat template accepts content in parts, as nearly all vision-language models do; others accept text only."""
        try:
            text = self._render(split_at_images([{"role": "user", "content": f"{IMAGE}probe"}]))
        except Exception:  # it rejects parts
            return False
        return text.count(image_token) == 1 and "probe" in text and "{'type'" not in text
