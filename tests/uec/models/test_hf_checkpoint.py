"""A checkpoint of a model that can be loaded can be written: what transformers refuses to save is corrected, or refused at the start."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, GenerationConfig

from tests.support import tiny_text
from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.hf_checkpoint import check_writable, save_pretrained, writable
from uec.models.pretrained import load_tokenizer
from uec.models.vocabulary import stop_tokens


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_text.build("qwen2", tmp_path / "model")


def generation(folder: Path, text: str) -> ModelConfig:
    (folder / "generation_config.json").write_text(text)
    return ModelConfig(path=str(folder))


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, {"do_sample": True, "temperature": 0.6, "top_p": 0.9}),
        ({"temperature": 0.6}, {"do_sample": True, "temperature": 0.6}),
        ({"top_k": 20}, {"do_sample": True, "top_k": 20}),
        ({"min_p": 0.1}, {"do_sample": True, "min_p": 0.1}),
        ({"early_stopping": True, "repetition_penalty": 1.1}, {"do_sample": True, "repetition_penalty": 1.1}),
        ({"pad_token_id": -1, "top_p": 0.9}, {"do_sample": True, "top_p": 0.9}),
        ({"do_sample": True, "temperature": 0.6}, {"do_sample": True, "temperature": 0.6}),
        ({}, {}),
    ],
)
def test_a_generation_config_is_written_corrected(given: dict[str, Any], written: dict[str, Any], tmp_path: Path) -> None:
    writable(GenerationConfig(**given, eos_token_id=[258, 256])).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "generation_config.json").read_text())
    content.pop("transformers_version")
    assert content == {"eos_token_id": [258, 256], **written}


def test_a_checkpoint_of_a_model_with_a_contradictory_generation_config_is_written(folder: Path, tmp_path: Path) -> None:
    model = generation(folder, '{"do_sample": false, "temperature": 0.6, "eos_token_id": [258, 256]}')
    tokenizer = load_tokenizer(model)
    check_writable(model, tokenizer)
    hf = AutoModelForCausalLM.from_pretrained(folder)
    save_pretrained(tmp_path / "saved", hf, tokenizer, dict(hf.named_parameters()))
    assert GenerationConfig.from_pretrained(tmp_path / "saved").temperature == 0.6
    assert load_tokenizer(ModelConfig(path=str(tmp_path / "saved"))).chat_template == tiny_text.CHATML


@pytest.mark.parametrize("text", ['{"max_new_tokens": 0}', '{"cache_implementation": "none"}', '{"early_stopping": "maybe"}'])
def test_a_generation_config_that_cannot_be_loaded_is_refused(folder: Path, text: str) -> None:
    model = generation(folder, text)
    with pytest.raises(BadInput, match="the generation_config.json of .* cannot be used: .*; correct it, or remove the file"):
        check_writable(model, load_tokenizer(model))


@pytest.mark.parametrize("text", ["{", "[]", "7"])
def test_a_generation_config_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    model = generation(folder, text)
    with pytest.raises(BadInput, match="generation_config.json"):
        stop_tokens(model, load_tokenizer(model))


@pytest.mark.parametrize("ends", ['"x"', "-1", "[258, null]", "2.5", "{}"])
def test_end_tokens_that_are_no_ids_are_refused(folder: Path, ends: str) -> None:
    model = generation(folder, f'{{"eos_token_id": {ends}}}')
    with pytest.raises(BadInput, match="generation_config.json has eos_token_id="):
        stop_tokens(model, load_tokenizer(model))


def test_end_tokens_come_from_tokenizer_generation_config_and_settings(folder: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    assert stop_tokens(generation(folder, '{"eos_token_id": [256]}'), tokenizer, [257]) == [256, 257, 258]
    (folder / "generation_config.json").unlink()
    assert stop_tokens(ModelConfig(path=str(folder)), tokenizer) == [258]


def test_a_tokenizer_that_cannot_be_saved_is_refused_at_the_start(folder: Path) -> None:
    class Broken:
        def save_pretrained(self, place: str) -> None:
            raise TypeError("object of type Fast is not JSON serializable")

    with pytest.raises(BadInput, match="no checkpoint of .* could be written: TypeError: object of type Fast is not JSON"):
        check_writable(ModelConfig(path=str(folder)), Broken())
