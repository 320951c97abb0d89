"""LoRA by peft: what is trained and published, merged weights, the reference, targets, adapter folders and their base model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.weights.manifest import expected_parameters
from tests.uec.models.test_policy_model import ROWS
from uec.config.schema import LoraConfig, ModelConfig
from uec.errors import BadInput
from uec.memory.shape import shape_of
from uec.models.adapter_folder import load_adapter, save_adapter
from uec.models.base_model import BaseModel
from uec.models.lora import LoraPolicy
from uec.models.merge import merged
from uec.models.policy import Policy, load_model
from uec.models.policy_model import make_policy_model
from uec.models.rows import Layout

COUNTDOWN = str(Path("assets/countdown").absolute())
MODEL = ModelConfig(path=COUNTDOWN)
LORA = LoraConfig(enabled=True, rank=4, alpha=6.0)


def policy() -> Policy:
    return Policy(load_model(MODEL, COUNTDOWN, "float32"), 1, 111)


def made(lora: LoraConfig = LORA, exchange: str = "merged", noise: bool = True) -> LoraPolicy:
    found = make_policy_model(policy(), MODEL, None, lora, exchange == "merged")
    assert isinstance(found, LoraPolicy)
    generator = torch.Generator().manual_seed(1)
    for _, parameter in found.trainable() if noise else ():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return found


def logprobs(forward: object) -> torch.Tensor:
    with torch.no_grad():
        return forward(Layout(torch.device("cpu"), packed=True).rows(ROWS, {})).logprobs_N  # type: ignore[operator]


def save(found: LoraPolicy, folder: Path) -> None:
    base = BaseModel.of(COUNTDOWN, policy().hf)
    weights = {name: tensor.clone() for name, tensor in found.complete()}
    save_adapter(folder, found.config, base, AutoTokenizer.from_pretrained(COUNTDOWN), weights)


@pytest.mark.parametrize("exchange", ["merged", "adapter"])
def test_the_engines_expect_what_is_published(exchange: str) -> None:
    published = {name: list(tensor.shape) for name, tensor in made(exchange=exchange).exported()}
    assert expected_parameters(MODEL, LORA, exchange) == published
    assert (published == expected_parameters(MODEL)) is (exchange == "merged")


@pytest.mark.parametrize("lora", [LORA, replace(LORA, rslora=True), replace(LORA, layers=[1], target_modules=["q_proj", "down_proj"])])
def test_merged_weights_compute_what_the_adapters_compute(lora: LoraConfig) -> None:
    found, plain = made(lora), policy()
    start = logprobs(plain)
    plain.hf.load_state_dict({name: tensor.clone() for name, tensor in found.exported()}, strict=False)
    assert (logprobs(found.policy) - start).abs().max() > 1e-3
    torch.testing.assert_close(logprobs(plain), logprobs(found.policy), atol=2e-5, rtol=0)


def test_the_reference_is_the_initial_model_and_leaves_gradients_alone() -> None:
    found = made()
    before = [name for name, _ in found.trainable()]
    torch.testing.assert_close(logprobs(found.reference()), logprobs(policy()), atol=1e-6, rtol=0)
    assert [name for name, _ in found.trainable()] == before
    assert all(".lora_" in name for name in before)


def test_equal_seeds_give_every_rank_the_same_adapter_which_changes_nothing_yet() -> None:
    torch.manual_seed(3)
    first = made(noise=False)
    torch.manual_seed(4)
    second = made(noise=False)
    for (_, a), (_, b) in zip(first.trainable(), second.trainable(), strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(logprobs(first.policy), logprobs(policy()), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": ["qq_proj"]}, "the model has no linear layer qq_proj to adapt; it has down_proj"),
        ({"target_modules": ["model.lm_head"]}, "no linear layer model.lm_head"),
        ({"layers": [99]}, "lora.layers: the model has no layer 99"),
    ],
)
def test_a_target_that_the_model_lacks_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make_policy_model(policy(), MODEL, None, replace(LORA, **changes))  # type: ignore[arg-type]


def test_an_adapter_folder_loads_in_peft_merges_and_starts_a_run(tmp_path: Path) -> None:
    found, folder = made(), tmp_path / "hf"
    save(found, folder)
    expected = logprobs(found.policy)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(COUNTDOWN), folder)
    torch.testing.assert_close(logprobs(Policy(theirs.merge_and_unload(), 1, 111)), expected, atol=2e-5, rtol=0)
    with merged(str(folder)) as model:
        AutoTokenizer.from_pretrained(model)
        again = Policy(AutoModelForCausalLM.from_pretrained(model), 1, 111)
    assert not Path(model).exists()
    torch.testing.assert_close(logprobs(again), expected, atol=2e-5, rtol=0)
    started = made(noise=False)
    load_adapter(replace(LORA, path=str(folder)), started.trainable())
    assert torch.equal(logprobs(started.policy), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 8}, "set lora.rank=4 lora.alpha=6 lora.rslora=false"),
        ({"layers": [0]}, "tensors differ, for example base_model.model.model.layers.1"),
    ],
)
def test_an_adapter_of_another_shape_starts_no_run(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    save(made(), tmp_path)
    lora = replace(LORA, path=str(tmp_path), **changes)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=message):
        load_adapter(lora, made(lora, noise=False).trainable())


def test_an_adapter_of_another_base_model_is_refused(tmp_path: Path) -> None:
    save(made(), tmp_path)
    changed = policy().hf
    next(changed.parameters()).data[0, 0] += 1
    with pytest.raises(BadInput, match=r"whose weights are not those of model.path=other"):
        BaseModel.of("other", changed).check(tmp_path)
    BaseModel.of("other", policy().hf).check(tmp_path)


def test_the_estimator_counts_adapters_as_trained() -> None:
    plain, small = shape_of(MODEL), shape_of(MODEL, LORA)
    assert small.trained == sum(parameter.numel() for _, parameter in made().trainable())
    assert small.parameters == plain.parameters + small.trained
