"""Token ids beyond the embedding, and the texts that graders see."""

from pathlib import Path

import numpy as np
import pytest

from tests.support import tiny_text
from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.pretrained import load_decoder, load_tokenizer
from uec.models.vocabulary import check_prompts, check_vocabulary
from uec.types import Prompt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_text.build("qwen2", tmp_path / "model")


def with_tokens(folder: Path, *added: str) -> ModelConfig:
    """Give the model a tokenizer with `added` behind <think> and </think>, 259 and 260; the embedding has 264 rows."""
    tiny_text.tokenizer(special=(*tiny_text.SPECIAL, *tiny_text.THINK, *added)).save_pretrained(folder)
    return ModelConfig(path=str(folder))


def prompt(*tokens: int) -> Prompt:
    return Prompt(0, "", np.array(tokens, np.int32), "1", {})


def test_a_tokenizer_with_tokens_beyond_the_embedding_is_refused(folder: Path) -> None:
    model = with_tokens(folder, "<a>", "<b>", "<c>")
    check_vocabulary(model, load_tokenizer(model))  # up to 263
    model = with_tokens(folder, "<a>", "<b>", "<c>", "<d>", "<e>")
    with pytest.raises(BadInput, match="has token ids up to 265, and the embedding has 264 rows .* so that '<d>', token 264, has none"):
        check_vocabulary(model, load_tokenizer(model))


def test_an_image_token_beyond_a_text_models_embedding_is_refused_only_in_a_prompt(folder: Path) -> None:
    model = with_tokens(folder, "<a>", "<b>", "<c>", "<image_soft_token>")  # as Gemma 3's text models have it
    tokenizer = load_tokenizer(model)
    check_vocabulary(model, tokenizer)
    check_prompts(model, tokenizer, [prompt(1, 263), prompt()])
    with pytest.raises(BadInput, match="a prompt holds '<image_soft_token>', token 264, and the embedding of .* has 264 rows"):
        check_prompts(model, tokenizer, [prompt(1, 2), prompt(264)])


@pytest.mark.parametrize("generic", [True, False])
def test_special_tokens_reach_the_grader_and_only_end_and_padding_are_left_out(folder: Path, generic: bool) -> None:
    if not generic:
        file = folder / "tokenizer_config.json"
        file.write_text(file.read_text().replace("{", '{"clean_up_tokenization_spaces": true,', 1))
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    said = "<think>2+4</think><|im_start|>6"
    ids = tokenizer(said + "<|im_end|><|endoftext|>").input_ids
    assert len(ids) == 3 + 3 + 1 + 2  # 2+4, three marks, 6, end and padding
    decode = load_decoder(ModelConfig(path=str(folder)))
    assert decode([np.array(ids, np.int32)]) == [said]
    assert load_decoder(ModelConfig(path=str(folder)), ends=[257])([np.array(ids, np.int32)]) == ["<think>2+4</think>6"]
