"""Vision-language models of five families as policies, against transformers' forward pass on one sequence at a time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.support import tiny_vlm
from tests.support.image_prompts import SIZES, Family, tower_names
from tests.support.varlen import reference_varlen_attn
from uec.config.schema import LearnerConfig, ModelConfig
from uec.errors import BadInput, RunFailed
from uec.models.deepspeed_engine import parameter_groups
from uec.models.policy import Policy, sequence_logprobs, verify
from uec.models.policy_model import make_policy_model
from uec.models.rows import Layout, Rows
from uec.models.vision import Vision, use_varlen, vision_tower
from uec.types import Continuation, ImageFeatures


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    made: dict[str, Family] = {}

    def get(name: str) -> Family:
        if name not in made:
            made[name] = Family(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture(params=tiny_vlm.FAMILIES)
def family(request: pytest.FixtureRequest, families: Callable[[str], Family]) -> Family:
    return families(request.param)


@pytest.fixture(params=tiny_vlm.QWEN)
def qwen(request: pytest.FixtureRequest, families: Callable[[str], Family]) -> Family:
    return families(request.param)


def grads(hf: torch.nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in hf.named_parameters()}


def weighted(logprobs_N: Tensor) -> Tensor:
    return (logprobs_N * torch.linspace(-1, 1, len(logprobs_N))).sum()


def same(ours: dict[str, Tensor | None], theirs: dict[str, Tensor | None]) -> None:
    """Assert that gradients are equal up to rounding, and that the same parameters have none."""
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        expected = theirs[name]
        assert (gradient is None) == (expected is None), name
        if gradient is not None and expected is not None:
            atol = 2e-5 + 1e-4 * float(expected.abs().max())
            torch.testing.assert_close(gradient, expected, atol=atol, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


def test_a_qwen_tower_on_varlen_attention_gives_the_same_numbers_in_one_call_a_layer(qwen: Family, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", lambda *a, **k: calls.append(a) or reference_varlen_attn(*a, **k))
    policy, layout = qwen.policy()
    use_varlen(policy.hf)
    rows = layout.rows(qwen.rows, qwen.images)
    weighted(policy(rows).logprobs_N).backward()
    assert len(calls) == 2  # layers; the images of all prompts together
    hf = qwen.plain_model()
    weighted(torch.cat(qwen.plain(hf))).backward()
    same(grads(policy.hf), grads(hf))


def test_other_towers_and_text_models_keep_their_attention(families) -> None:
    for name in ("internvl", "idefics3"):
        policy, _ = families(name).policy()
        before = vision_tower(policy.hf).config._attn_implementation
        use_varlen(policy.hf)
        assert vision_tower(policy.hf).config._attn_implementation == before == "sdpa"
    use_varlen(Qwen2ForCausalLM(Qwen2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=8)))


# --- log-probabilities and gradients


def test_responses_that_share_a_row_with_images_have_the_logprobs_of_transformers(family: Family) -> None:
    policy, layout = family.policy()
    rows = layout.rows(family.rows, family.images)
    with torch.no_grad():
        ours, theirs = rows.split(policy(rows).logprobs_N), family.plain(family.plain_model())
    assert len(ours) == len(theirs) == 3 * len(SIZES)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)


def test_every_budget_gives_the_same_logprobs(family: Family) -> None:
    sequences = [one for row in family.rows for one in row]
    theirs = family.plain(family.plain_model())
    for budget, packed in ((10_000, True), (150, True), (150, False), (1, False)):
        policy, layout = family.policy(packed)
        ours, _ = sequence_logprobs(policy, sequences, layout, family.images, budget)
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other.detach(), atol=1e-4)


def test_the_tower_sees_each_prompts_images_once_for_all_its_responses(family: Family) -> None:
    _, layout = family.policy()
    pixels = layout.rows(family.rows, family.images).images["pixel_values"]
    assert pixels.numel() == sum(features.inputs["pixel_values"].size for features in family.images.values())


def test_gradients_of_shared_rows_are_those_of_plain_forward_passes(family: Family) -> None:
    policy, layout = family.policy()
    weighted(policy(layout.rows(family.rows, family.images)).logprobs_N).backward()
    hf = family.plain_model()
    weighted(torch.cat(family.plain(hf))).backward()
    same(grads(policy.hf), grads(hf))


def test_gradients_of_shared_rows_are_those_of_separate_rows(family: Family) -> None:
    found = []
    for packed, rows in ((True, family.rows), (False, [[one] for row in family.rows for one in row])):
        policy, layout = family.policy(packed)
        weighted(policy(layout.rows(rows, family.images)).logprobs_N).backward()
        found.append(grads(policy.hf))
    same(*found)


def test_gradient_checkpointing_changes_no_gradient(family: Family) -> None:
    found = []
    for on in (False, True):
        policy, layout = family.policy()
        policy.train()
        if on:
            policy.hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        weighted(policy(layout.rows(family.rows, family.images)).logprobs_N).backward()
        found.append(grads(policy.hf))
    same(*found)


@pytest.mark.parametrize("count", [0, 1], ids=["no-rows", "text-only"])
def test_without_images_every_trained_parameter_has_a_gradient_and_the_towers_is_zero(family: Family, count: int) -> None:
    policy, layout = family.policy()
    weighted(policy(layout.rows(family.rows, family.images)).logprobs_N).backward()
    with_images = {name for name, gradient in grads(policy.hf).items() if gradient is not None}
    policy, layout = family.policy()
    text = [row for row in family.rows if row[0].prompt not in family.images][:count]
    rows = layout.rows(text, family.images)
    weighted(policy(rows).logprobs_N).backward()
    found = grads(policy.hf)
    assert {name for name, gradient in found.items() if gradient is not None} == with_images
    tower = {id(parameter) for parameter in vision_tower(policy.hf).parameters()}
    for name, parameter in policy.hf.named_parameters():
        if parameter.grad is not None and (id(parameter) in tower or not count):
            assert not parameter.grad.any(), name
    assert rows.counts == [len(one.tokens) for row in text for one in row]
    if count:
        hf = family.plain_model()
        [number] = [i for i, one in enumerate(family.prompts) if one.features is None]
        weighted(torch.cat(family.plain(hf)[3 * number : 3 * number + 3])).backward()
        plain = {name: gradient for name, gradient in grads(hf).items() if gradient is not None}
        same({name: found[name] for name in plain}, plain)


# --- positions


def test_positions_are_those_that_the_model_gives_each_sequence_alone(qwen: Family) -> None:
    policy, layout = qwen.policy()
    rows = layout.rows(qwen.rows, qwen.images)
    cols = np.split(rows.col_N.numpy(), np.cumsum(rows.counts)[:-1])
    begin = 0
    for number, (one, row) in enumerate(zip(qwen.prompts, qwen.rows, strict=True)):
        grid = {name: value for name, value in one.plain.items() if name == "image_grid_thw"}
        size = len(one.prompt.tokens)
        for k, response in enumerate(row):
            ids = torch.cat([one.plain["input_ids"][0], torch.from_numpy(response.tokens).long()])[None]
            kinds = torch.nn.functional.pad(one.plain["mm_token_type_ids"], (0, len(response.tokens)))
            expected, _ = policy.hf.base_model.get_rope_index(ids, mm_token_type_ids=kinds, **grid)
            assert rows.positions[:, 0, begin : begin + size].tolist() == expected[:, 0, :size].tolist()
            assert rows.positions[:, 0, cols[3 * number + k]].tolist() == expected[:, 0, size:].tolist()
        begin += size + sum(len(response.tokens) for response in row)


def test_image_tokens_have_3d_positions_in_the_qwen_families_only(family: Family) -> None:
    _, layout = family.policy(packed=False)
    rows = layout.rows([row[:1] for row in family.rows], family.images)
    if family.name in tiny_vlm.QWEN:
        assert rows.positions.shape == (3, *rows.ids_BL.shape)
        assert (rows.positions[0, 0] != rows.positions[1, 0]).any()
    else:
        assert rows.positions is None


# --- what is refused


def forbidden(*_: Any) -> Any:
    raise AssertionError("the model was asked")


def refusal(layout: Layout, sequences: list[Continuation], images: dict[int, ImageFeatures]) -> str:
    with pytest.raises(RunFailed) as raised:
        sequence_logprobs(forbidden, sequences, layout, images, 10_000)
    return str(raised.value)


def test_features_that_do_not_fit_the_image_tokens_are_refused_before_the_model_runs(family: Family) -> None:
    _, layout = family.policy()
    images = family.images
    sequences = [one for row in family.rows for one in row]
    counts = {index: features.tokens for index, features in images.items()}
    without = {index: features for index, features in images.items() if index != 1}
    assert f"prompt 1 has {counts[1]} image tokens and features for 0" in refusal(layout, sequences, without)
    assert f"prompt 1 has {counts[1]} image tokens and features for {counts[0]}" in refusal(layout, sequences, {**images, 1: images[0]})
    assert f"prompt 2 has 0 image tokens and features for {counts[0]}" in refusal(layout, sequences, {**images, 2: images[0]})


def test_a_response_that_holds_an_image_token_is_refused(family: Family) -> None:
    _, layout = family.policy()
    bad = replace(family.rows[2][1], tokens=np.array([5, family.processor.feature_id], np.int32))
    assert "a response to prompt 2 holds an image token" in refusal(layout, [*family.rows[0], family.rows[2][0], bad], family.images)


def test_vision_tokens_have_no_probability_and_the_others_have_all_of_it(family: Family) -> None:
    policy, layout = family.policy()
    [prompt, *_] = family.prompts
    singles = [token for token in range(family.vocabulary) if token != family.processor.feature_id]
    sequences = [Continuation(0, prompt.prompt.tokens, np.array([token], np.int32)) for token in singles]
    logprobs, entropies = sequence_logprobs(policy, sequences, layout, family.images, 10_000)
    assert len(family.banned) > 2
    assert all(float(logprobs[i]) < -1e8 for i, token in enumerate(singles) if token in family.banned)
    assert sum(float(np.exp(found[0], dtype=np.float64)) for found in logprobs) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(np.concatenate(entropies)).all()


# --- the check at the start


@pytest.mark.parametrize("packed", [True, False])
def test_every_family_passes_the_check_at_the_start(family: Family, packed: bool) -> None:
    policy, layout = family.policy(packed)
    assert verify(policy, policy, layout) is None  # raises where they differ


def test_wrong_positions_fail_the_check_at_the_start(qwen: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, layout = qwen.policy()
    monkeypatch.setattr(Vision, "positions", lambda self, tokens, features: None)
    with pytest.raises(BadInput, match=f"{type(policy.hf).__name__} cannot be trained"):
        verify(policy, policy, layout)


def test_a_policy_that_does_not_see_its_images_fails_the_check_at_the_start(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, layout = family.policy()
    monkeypatch.setattr(policy, "_images", lambda rows: {})
    with pytest.raises(BadInput, match="cannot be trained"):
        verify(policy, policy, layout)


# --- what is trained


def test_a_frozen_tower_is_not_among_what_is_trained(family: Family) -> None:
    policy, layout = family.policy()
    tower = tower_names(policy.hf)
    assert tower and all("vision" in name or "visual" in name for name in tower)
    everything = dict(policy.hf.named_parameters())
    whole = make_policy_model(policy, ModelConfig())
    assert dict(whole.trainable()).keys() == dict(whole.exported()).keys() == dict(whole.complete()).keys() == everything.keys()
    frozen = make_policy_model(policy, ModelConfig(freeze_vision_tower=True))
    assert dict(frozen.trainable()).keys() == dict(frozen.exported()).keys() == everything.keys() - tower
    assert dict(frozen.complete()).keys() == everything.keys()
    for rows in (family.rows, family.rows[2:3]):
        weighted(policy(layout.rows(rows, family.images)).logprobs_N).backward()
        found = grads(policy.hf)
        assert all(found[name] is None for name in tower)
        assert all(found[name] is not None for name in everything.keys() - tower)
        policy.zero_grad()


def test_a_model_without_a_tower_cannot_freeze_it() -> None:
    hf = Qwen2ForCausalLM(Qwen2Config(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(BadInput, match=r"model.freeze_vision_tower=true.*Qwen2ForCausalLM.*no vision tower"):
        make_policy_model(Policy(hf, 256, 8), ModelConfig(freeze_vision_tower=True))


def test_the_tower_has_a_separate_learning_rate(family: Family) -> None:
    policy, _ = family.policy()
    tower = tower_names(policy.hf)
    names = {id(parameter): name for name, parameter in policy.hf.named_parameters()}

    def groups(scale: float, frozen: bool = False) -> list[tuple[float, set[str]]]:
        trainable = make_policy_model(policy, ModelConfig(freeze_vision_tower=frozen)).trainable()
        found = parameter_groups(policy, trainable, LearnerConfig(vision_lr_scale=scale))
        assert sum(len(group["params"]) for group in found) == len({id(p) for group in found for p in group["params"]})
        return [(group["lr_scale"], {names[id(parameter)] for parameter in group["params"]}) for group in found]

    everything = set(names.values())
    assert groups(1.0) == [(1.0, everything)]
    assert groups(0.1) == [(1.0, everything - tower), (0.1, tower)]
    assert groups(0.1, frozen=True) == [(1.0, everything - tower)]


def test_images_take_the_dtype_of_the_model(family: Family) -> None:
    policy, layout = family.policy()
    policy.hf.to(torch.bfloat16)
    rows: Rows = layout.rows(family.rows, family.images)
    assert torch.isfinite(policy(rows).logprobs_N).all()
