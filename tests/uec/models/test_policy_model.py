"""The PolicyModel contract: what training changes, what the engines receive, what a checkpoint holds, and the initial model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from actors.weights.manifest import expected_parameters
from tests.support import tiny_vlm
from tests.support.adapter_policy import AdapterPolicy
from uec.config.schema import ModelConfig
from uec.models.policy import Policy, load_model
from uec.models.policy_model import FrozenTowerPolicy, FullPolicy, PolicyModel, make_policy_model, meta_policy_model
from uec.models.rows import Layout
from uec.types import Continuation

WORDS = 20
ROWS = [[Continuation(0, np.array([5, 6], np.int32), np.array([7, 8, 9], np.int32))]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
    Qwen2ForCausalLM(Qwen2Config(vocab_size=WORDS, tie_word_embeddings=True, initializer_range=0.3, **size)).save_pretrained(folder)
    return folder


def load(folder: Path) -> Policy:
    return Policy(load_model(ModelConfig(path=str(folder)), str(folder), "float32"), 1, WORDS)


def logprobs(forward: object) -> torch.Tensor:
    return forward(Layout(torch.device("cpu"), packed=True).rows(ROWS, {})).logprobs_N  # type: ignore[operator]


def test_a_text_model_is_trained_and_exported_whole(folder: Path) -> None:
    model = ModelConfig(path=str(folder))
    full = make_policy_model(load(folder), model)
    assert type(full) is FullPolicy
    names = [name for name, _ in full.policy.hf.named_parameters()]
    assert "lm_head.weight" not in names  # tied: exported once
    for named in (full.trainable(), full.exported(), full.complete()):
        assert [name for name, _ in named] == names
    assert expected_parameters(model) == {name: list(tensor.shape) for name, tensor in full.exported()}


@pytest.mark.parametrize("frozen", [False, True])
def test_the_manifest_expects_what_is_exported_from_an_image_model(tmp_path: Path, frozen: bool) -> None:
    model = ModelConfig(path=str(tiny_vlm.build("qwen2_5_vl", tmp_path)), freeze_vision_tower=frozen)
    loaded = make_policy_model(load(tmp_path), model)
    assert type(loaded) is (FrozenTowerPolicy if frozen else FullPolicy)
    assert expected_parameters(model) == {name: list(tensor.shape) for name, tensor in loaded.exported()}
    assert all(tensor.is_meta for _, tensor in meta_policy_model(model).complete())


def test_the_reference_is_loaded_only_where_a_loss_term_needs_it(folder: Path) -> None:
    assert make_policy_model(load(folder), ModelConfig()).reference() is None
    policy, loaded = load(folder), []
    model = make_policy_model(policy, ModelConfig(), lambda: loaded.append(load(folder)) or loaded[0])
    assert not loaded
    reference = model.reference()
    before = logprobs(policy)
    with torch.no_grad():
        policy.hf.model.norm.weight.mul_(2)
    torch.testing.assert_close(logprobs(reference), before, atol=0, rtol=0)
    assert (logprobs(policy) != before).all()


def test_adapters_fit_the_contract_without_a_second_copy_of_the_model(folder: Path, tmp_path: Path) -> None:
    initial = load(folder)
    model: PolicyModel = AdapterPolicy(load(folder))
    names = [name for name, _ in model.trainable()]
    assert len(names) == 4 and all(name.endswith(("q_proj.down", "q_proj.up")) for name in names)
    assert {parameter for _, parameter in model.trainable()} == {p for p in model.policy.parameters() if p.requires_grad}
    optimizer = torch.optim.SGD([parameter for _, parameter in model.trainable()], lr=10.0)
    logprobs(model.policy).sum().backward()
    optimizer.step()
    moved = logprobs(model.policy).detach()
    assert (moved - logprobs(initial)).abs().max() > 1e-3
    torch.testing.assert_close(logprobs(model.reference()), logprobs(initial), atol=0, rtol=0)
    model.policy.hf.save_pretrained(tmp_path, state_dict={name: tensor.clone() for name, tensor in model.complete()})
    merged = Policy(AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32), 1, WORDS)
    assert {name for name, _ in model.complete()} == {name for name, _ in initial.hf.named_parameters()}
    torch.testing.assert_close(logprobs(merged), moved, atol=1e-5, rtol=0)
