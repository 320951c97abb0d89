"""A model's weights are checked by their headers, before any actor starts: each kind of wrong folder is refused, sound ones pass."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support import tiny_text, tiny_vlm
from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.pretrained import locate_model, resolve_model

DOWN = "model.layers.1.mlp.down_proj.weight"


def complaint(folder: Path) -> str:
    with pytest.raises(BadInput) as raised:
        resolve_model(ModelConfig(path=str(folder)))
    assert len(str(raised.value)) <= 1000
    return str(raised.value)


def accepted(folder: Path) -> bool:
    return resolve_model(ModelConfig(path=str(folder))) == str(folder)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, weights: dict[str, torch.Tensor], name: str = "model.safetensors") -> None:
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / name, metadata={"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def split(folder: Path) -> list[str]:
    """Split the weights into two files with an index; return the files' names."""
    weights = tensors(folder)
    names = sorted(weights)
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for file, part in zip(files, (names[::2], names[1::2]), strict=True):
        rewrite(folder, {name: weights[name] for name in part}, file)
    index = {name: files[i % 2] for i, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "model.safetensors").unlink()
    return files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_text.build("qwen2", tmp_path / "model")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", tiny_text.FAMILIES)
def test_sound_weights_of_each_family_pass(family: str, tied: bool, tmp_path: Path) -> None:
    assert accepted(tiny_text.build(family, tmp_path / "model", tie_word_embeddings=tied))


@pytest.mark.parametrize("family", tiny_vlm.FAMILIES)
def test_sound_weights_of_each_vision_language_family_pass(family: str, tmp_path: Path) -> None:
    assert accepted(tiny_vlm.build(family, tmp_path / "model"))


def test_the_default_models_pass(project: Path) -> None:
    assert accepted(project / "assets/countdown") and accepted(project / "assets/geometry")


def test_split_weights_in_half_precision_pass(folder: Path) -> None:
    rewrite(folder, {name: tensor.bfloat16() for name, tensor in tensors(folder).items()})
    split(folder)
    assert accepted(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    weights = tensors(folder)
    del weights[DOWN]
    rewrite(folder, weights)
    said = complaint(folder)
    assert f"lacks {DOWN}, which Qwen2ForCausalLM of its config.json has" in said and "tie_word_embeddings" not in said


def test_many_missing_tensors_are_named_in_the_order_of_the_layers_and_counted(tmp_path: Path) -> None:
    folder = tiny_text.build("qwen2", tmp_path / "model", num_hidden_layers=11)
    rewrite(folder, {name: tensor for name, tensor in tensors(folder).items() if "norm" not in name or ".layers." not in name})
    said = complaint(folder)
    first = "model.layers.0.input_layernorm.weight, model.layers.0.post_attention_layernorm.weight, model.layers.1.input_layernorm.weight"
    assert f"{first} and 19 more" in said  # 11 layers of 2


def test_a_missing_head_is_named_with_the_setting_that_ties_it(folder: Path) -> None:
    weights = tensors(folder)
    del weights["lm_head.weight"]
    rewrite(folder, weights)
    said = complaint(folder)
    assert "lacks lm_head.weight" in said and "tie_word_embeddings=true" in said
    configure(folder, tie_word_embeddings=True)
    assert accepted(folder)


def test_a_tied_model_whose_file_has_only_the_head_passes_as_transformers_ties_both_ways(folder: Path) -> None:
    weights = tensors(folder)
    del weights["model.embed_tokens.weight"]
    rewrite(folder, weights)
    configure(folder, tie_word_embeddings=True)
    assert accepted(folder)


def test_a_tied_config_beside_another_head_is_refused_and_beside_an_equal_one_not(folder: Path) -> None:
    configure(folder, tie_word_embeddings=True)
    assert "says tie_word_embeddings=true, and lm_head.weight differs from model.embed_tokens.weight" in complaint(folder)
    weights = tensors(folder)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    rewrite(folder, weights)
    assert accepted(folder)
    weights["lm_head.weight"][-1, -1] += 1
    rewrite(folder, weights)
    assert "differs" in complaint(folder)


def test_a_missing_expert_is_refused(tmp_path: Path) -> None:
    folder = tiny_text.build("qwen3_moe", tmp_path / "model")
    weights = tensors(folder)
    del weights["model.layers.0.mlp.experts.3.down_proj.weight"]
    rewrite(folder, weights)
    assert "model.layers.0.mlp.experts.down_proj in " in complaint(folder)


def test_weights_of_other_sizes_are_refused_with_both_shapes(folder: Path) -> None:
    weights = tensors(folder)
    weights[DOWN] = torch.zeros(64, 130)
    rewrite(folder, weights)
    assert f"{DOWN} in {folder} is [64, 130], and its config.json says [64, 128]" in complaint(folder)


def test_more_layers_than_config_says_are_refused_and_old_buffers_not(folder: Path) -> None:
    rewrite(folder, {**tensors(folder), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)})
    assert accepted(folder)
    configure(folder, num_hidden_layers=1, layer_types=["full_attention"])
    said = complaint(folder)
    assert "has model.layers.1.input_layernorm.weight, " in said
    assert "and 9 more, for which the model of its config.json has no place" in said


def test_a_bias_that_the_model_does_not_have_is_refused(folder: Path) -> None:
    rewrite(folder, {**tensors(folder), "model.layers.0.mlp.up_proj.bias": torch.zeros(128)})
    assert "has model.layers.0.mlp.up_proj.bias, for which" in complaint(folder)


def test_a_missing_file_of_the_index_is_named(folder: Path) -> None:
    files = split(folder)
    (folder / files[1]).unlink()
    assert f"{folder / files[1]} is missing, and model.safetensors.index.json names it" in complaint(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "model.bin", ".."])
def test_an_index_must_not_leave_the_folder(folder: Path, name: str) -> None:
    split(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {DOWN: name}}))
    assert f"names {name!r}; expected .safetensors files of the same folder" in complaint(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_an_index_that_is_none_is_named(folder: Path, text: str) -> None:
    (folder / "model.safetensors.index.json").write_text(text)
    assert f"model.path: {folder / 'model.safetensors.index.json'}" in complaint(folder)


def test_split_weights_without_an_index_are_refused(folder: Path) -> None:
    split(folder)
    (folder / "model.safetensors.index.json").unlink()
    assert "and neither model.safetensors nor model.safetensors.index.json" in complaint(folder)


def test_two_models_in_one_folder_are_refused(folder: Path) -> None:
    weights = tensors(folder)
    split(folder)
    rewrite(folder, weights)
    assert "two models in one folder" in complaint(folder)


def test_other_weight_files_that_the_engine_would_load_too_are_refused(folder: Path) -> None:
    rewrite(folder, {"x": torch.ones(1)}, "copy.safetensors")
    assert "has copy.safetensors beside model.safetensors" in complaint(folder)


def test_an_index_leaves_other_weight_files_out(folder: Path) -> None:
    split(folder)
    rewrite(folder, {"layers.0.attention.wq.weight": torch.ones(1)}, "consolidated.safetensors")
    assert accepted(folder)


def test_an_adapter_beside_the_model_is_refused(folder: Path) -> None:
    rewrite(folder, {"base_model.model.x.lora_A.weight": torch.ones(1)}, "adapter_model.safetensors")
    assert "has a model, model.safetensors, and an adapter, adapter_model.safetensors" in complaint(folder)


@pytest.mark.parametrize("prefix", ["base_model.model.", "module.", "_orig_mod.", "_fsdp_wrapped_module."])
def test_names_of_a_wrapped_model_are_recognised(folder: Path, prefix: str) -> None:
    rewrite(folder, {prefix + name: tensor for name, tensor in tensors(folder).items()})
    assert f"has {prefix}lm_head.weight, whose name is that of " in complaint(folder)


def test_an_adapters_tensors_among_the_models_are_refused(folder: Path) -> None:
    rewrite(folder, {**tensors(folder), "model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(4, 64)})
    assert "has model.layers.0.self_attn.q_proj.lora_A.weight, an adapter's tensor" in complaint(folder)


@pytest.mark.parametrize("tied", [False, True])
def test_names_without_the_models_prefix_are_refused(folder: Path, tied: bool) -> None:
    configure(folder, tie_word_embeddings=tied)
    rewrite(folder, {name.removeprefix("model."): tensor for name, tensor in tensors(folder).items() if name != "lm_head.weight"})
    assert "has embed_tokens.weight where Qwen2ForCausalLM has model.embed_tokens.weight: all names lack" in complaint(folder)


def test_a_folder_with_an_adapter_says_whose_it_is_and_how_to_merge_it(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "school/base"}))
    said = complaint(folder)
    assert f"{folder} is a LoRA adapter of school/base, not a model" in said and "merge_and_unload()" in said
    (folder / "adapter_config.json").write_text("{}")
    assert "adapter of its base model" in complaint(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"quantization_config": {"quant_method": "awq", "bits": 4}},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        {"quantization_config": {"quant_method": "fp8"}},
        {"quantization_config": {"quant_method": "compressed-tensors"}},
        {"quantization_config": {"bits": 4}},
        {"compression_config": {"format": "pack-quantized"}},
    ],
)
def test_quantised_weights_are_refused_by_their_config(folder: Path, settings: dict[str, Any]) -> None:
    configure(folder, **settings)
    with pytest.raises(BadInput, match="quantised weights cannot be trained; give the model's unquantised weights"):
        locate = ModelConfig(path=str(folder))
        resolve_model(locate)
    assert locate_model(ModelConfig(path=str(folder))) == str(folder)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("model.layers.0.mlp.up_proj.qweight", torch.zeros(8, 128, dtype=torch.int32)),
        ("model.layers.0.mlp.up_proj.weight.absmax", torch.zeros(8)),
        ("model.layers.0.mlp.up_proj.weight_scale_inv", torch.zeros(1)),
        ("model.layers.0.mlp.up_proj.weight", torch.zeros(128, 64, dtype=torch.int8)),
        ("model.layers.0.mlp.up_proj.weight", torch.zeros(128, 64).to(torch.float8_e4m3fn)),
    ],
)
def test_quantised_weights_are_refused_by_their_headers(folder: Path, name: str, tensor: torch.Tensor) -> None:
    rewrite(folder, {**tensors(folder), name: tensor})
    assert f"{name} in {folder / 'model.safetensors'} (" in complaint(folder) and "is quantised" in complaint(folder)


def test_a_config_of_another_family_is_refused(folder: Path) -> None:
    configure(folder, model_type="gpt2", architectures=["GPT2LMHeadModel"])
    complaint(folder)
