"""A config.json that makes no model, or one that fails at its first step, is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny_text
from uec.config.schema import LearnerConfig, ModelConfig
from uec.errors import BadInput
from uec.models.architecture import architecture_notes, check_device
from uec.models.model_config import takes_packed_rows
from uec.models.packing import packs
from uec.models.pretrained import load_config, resolve_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_text.build("qwen2", tmp_path_factory.mktemp("models") / "qwen2")


def complaint(model: Path, folder: Path, **changes: Any) -> str:
    """Return the message for a config.json with these changes; the weights do not matter."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**json.loads((model / "config.json").read_text()), **changes}))
    with pytest.raises(BadInput) as raised:
        resolve_model(ModelConfig(path=str(folder)))
    said = str(raised.value)
    assert said.startswith("model.path: ") and "\n" not in said and len(said) < 600
    return said


@pytest.mark.parametrize(
    ("name", "size", "largest"),
    [
        ("num_hidden_layers", 0, 1024),
        ("num_hidden_layers", -2, 1024),
        ("num_hidden_layers", 10**9, 1024),
        ("num_attention_heads", -1, 4096),
        ("vocab_size", -264, 16777216),
        ("max_position_embeddings", 0, 134217728),
        ("max_position_embeddings", 10**40, 134217728),
    ],
)
def test_impossible_sizes_are_refused_with_their_range(name: str, size: int, largest: int, model: Path, tmp_path: Path) -> None:
    changes = {name: size} | ({"layer_types": None} if name == "num_hidden_layers" else {})
    shown = "about 2^133" if size == 10**40 else str(size)  # 10^40 has 133 binary digits
    assert f"has {name}={shown}; expected 1 to {largest}" in complaint(model, tmp_path, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_position_embeddings": "many"},
        {"num_hidden_layers": "two"},
        {"num_hidden_layers": 2.5},
        {"hidden_size": None},
        {"num_hidden_layers": 3},  # and two layer_types
        {"rope_parameters": {"rope_type": "nothing_known", "rope_theta": 10000.0}},
        {"rope_parameters": 7},
        {"layer_types": ["full_attention", "nothing_known"]},
        {"model_type": 3},
        {"model_type": "t5"},
        {"vocab_size": True},
        {"pad_token_id": 99999},
        {"dtype": "float99"},
        {"transformers_weights": "../other.safetensors"},
    ],
    ids=str,
)
def test_values_of_other_kinds_are_refused_in_one_line(changes: dict[str, Any], model: Path, tmp_path: Path) -> None:
    complaint(model, tmp_path, **changes)


@pytest.mark.parametrize("text", ["[]", "{", "7", "null", '"x"', "{}", "[" * 5000])
def test_a_config_json_that_is_no_object_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match="the config.json of .* cannot be used: ") as raised:
        load_config(ModelConfig(path=str(tmp_path)))
    assert "\n" not in str(raised.value)


def test_heads_that_do_not_divide_are_refused(model: Path, tmp_path: Path) -> None:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 3, "head_dim": 16}
    assert "num_attention_heads=4, which num_key_value_heads=3 does not divide" in complaint(model, tmp_path, **heads)
    config = {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": None}
    complaint(model, tmp_path, **config)
    assert "even rotary dimension" in complaint(model, tmp_path, head_dim=33)


def test_a_head_size_that_the_config_gives_needs_no_division(tmp_path: Path) -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32}
    folder = tiny_text.build("qwen3", tmp_path / "model", **sizes)
    assert resolve_model(ModelConfig(path=str(folder))) == str(folder)


def test_an_activation_that_transformers_does_not_know_is_refused(model: Path, tmp_path: Path) -> None:
    assert "has hidden_act='swish9', which transformers does not know; e.g. silu" in complaint(model, tmp_path, hidden_act="swish9")


@pytest.mark.parametrize("name", ["Qwen2Model", "Qwen2ForSequenceClassification"])
def test_a_model_that_writes_no_text_is_refused(name: str, model: Path, tmp_path: Path) -> None:
    said = complaint(model, tmp_path, architectures=[name])
    assert f"is that of {name}, which writes no text; take the family's Qwen2ForCausalLM" in said


PADDED = {
    "mistral": "MistralForCausalLM has sliding windows of 32 tokens in its layers",
    "gemma3_text": "Gemma3ForCausalLM has full_attention and sliding_attention in its layers",
    "qwen3_5_text": "Qwen3_5ForCausalLM has full_attention and linear_attention in its layers",
}


@pytest.mark.parametrize("family", tiny_text.FAMILIES)
def test_a_run_says_which_families_are_padded(family: str, tmp_path: Path) -> None:
    config = load_config(ModelConfig(path=str(tiny_text.build(family, tmp_path / "model"))))
    notes = architecture_notes(LearnerConfig(), config)
    padded = [f"{PADDED[family]}: every response has a padded row, and learner.shared_prefix has no effect"] if family in PADDED else []
    assert [note for note in notes if "padded" in note] == padded
    assert packs(LearnerConfig(), config) == (not padded)
    assert architecture_notes(LearnerConfig(shared_prefix=False), config) == [note for note in notes if "padded" not in note]


def test_a_family_without_an_attention_interface_is_padded() -> None:
    from transformers import BloomConfig

    assert not takes_packed_rows(BloomConfig())
    [note] = architecture_notes(LearnerConfig(), BloomConfig())
    assert note.startswith("BloomForCausalLM takes no other attention function: every response has a padded row")


def test_experts_are_noted_and_refused_where_an_update_would_not_reach_them(tmp_path: Path) -> None:
    config = load_config(ModelConfig(path=str(tiny_text.build("qwen3_moe", tmp_path / "moe"))))
    [note] = architecture_notes(LearnerConfig(), config)
    assert note.startswith("Qwen3MoeForCausalLM has 4 experts per layer")
    check_device(config, "cuda", "bfloat16")
    with pytest.raises(BadInput, match="cannot be trained on CPU; take a dense model, or GPUs"):
        check_device(config, "cpu", "float32")


def test_linear_attention_on_cpu_needs_bfloat16(tmp_path: Path) -> None:
    config = load_config(ModelConfig(path=str(tiny_text.build("qwen3_5_text", tmp_path / "hybrid"))))
    check_device(config, "cpu", "bfloat16")
    check_device(config, "cuda", "float32")
    for dtype in ("float32", "auto"):
        with pytest.raises(BadInput, match=f"model.dtype={dtype}: vLLM's CPU kernels compute gated linear attention"):
            check_device(config, "cpu", dtype)
