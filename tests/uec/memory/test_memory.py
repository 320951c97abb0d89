"""The memory estimate: parameters and bytes by hand, the tensors that autograd keeps, and the notes where memory is too small."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.support.model_folders import model_folder
from uec.config.schema import Config, ModelConfig
from uec.memory.allocations import GIB, MIB, Allocation
from uec.memory.engine_memory import engine_memory
from uec.memory.gpus import gpu_estimates, smallest_gpu
from uec.memory.host import host_estimate
from uec.memory.learner_memory import learner_memory, micro_batch_tokens
from uec.memory.memory_report import memory_report
from uec.memory.shape import Layers, Shape, shape_of
from uec.memory.workload import typical, worst_case
from uec.models.policy import Policy
from uec.models.rows import Layout
from uec.system.platform import detect
from uec.types import Continuation

SEVEN = 7_615_616_512
"""Parameters of Qwen2.5-7B: a layer has 3584 * (2 * 3584 + 2 * 512 + 3 * 18944) weights, 3584 + 2 * 512 biases and 2 * 3584 of its norms,
which is 233,057,792; 28 of them, two embeddings of 152,064 x 3584, and the last norm's 3584."""


WORST = worst_case(16)
PROMPTS = [8, 16]


def shape(parameters: int = SEVEN, **changes: int | bool) -> Shape:
    given = dict(trained=parameters, head=152_064 * 3584, vocabulary=152_064, patches=1, pixels=1, trains_vision=False) | changes
    return Shape(parameters=parameters, text=Layers(28, 3584, 18944, 3584, 512, 4), vision=None, **given)  # type: ignore[arg-type]


def sizes(allocations: list[Allocation]) -> dict[str, float]:
    return {allocation.name: allocation.bytes for allocation in allocations}


@pytest.fixture
def seven(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., Config]:
    """A config of the 7B text model."""
    path = model_folder(tmp_path / "seven", "Qwen2.5-7B-Instruct")
    return lambda *overrides: make_config(f"model.path={path}", "algorithm=grpo", *overrides)


@pytest.mark.parametrize(
    ("name", "parameters", "kv_bytes"),
    [
        ("Qwen2.5-0.5B-Instruct", 494_032_768, 2 * 24 * 2 * 64 * 2),
        ("Qwen2.5-1.5B-Instruct", 1_543_714_304, 2 * 28 * 2 * 128 * 2),
        ("Qwen2.5-7B-Instruct", SEVEN, 2 * 28 * 4 * 128 * 2),
        ("Qwen2.5-Math-7B", SEVEN, 57_344),
        ("Qwen2.5-VL-3B-Instruct", 3_754_622_976, 2 * 36 * 2 * 128 * 2),
        ("Qwen2.5-VL-7B-Instruct", 8_292_166_656, 57_344),
    ],
)
def test_a_config_json_is_enough_to_count_parameters_and_keys(tmp_path: Path, name: str, parameters: int, kv_bytes: int) -> None:
    found = shape_of(ModelConfig(path=str(model_folder(tmp_path / "model", name))))
    assert (found.parameters, found.trained, found.kv_bytes(2)) == (parameters, parameters, kv_bytes)


def test_a_frozen_vision_tower_has_weights_and_no_more(tmp_path: Path) -> None:
    path = str(model_folder(tmp_path / "model", "Qwen2.5-VL-7B-Instruct"))
    found = shape_of(ModelConfig(path=path, freeze_vision_tower=True))
    assert (found.parameters, found.trained, found.trains_vision) == (8_292_166_656, SEVEN, False)
    assert shape_of(ModelConfig(path=path)).trains_vision
    assert (found.patches, found.pixels) == (4, 28 * 28)


@pytest.mark.parametrize(
    ("stage", "weights", "master", "moments", "gradients"),  # bytes a parameter, on four ranks in bfloat16
    [(1, 2, 4 / 4, 8 / 4, 4), (2, 2, 4 / 4, 8 / 4, 4 / 4), (3, 2 / 4, 4 / 4, 8 / 4, 4 / 4)],
)
def test_zero_divides_more_with_each_stage(
    seven: Callable[..., Config], stage: int, weights: float, master: float, moments: float, gradients: float
) -> None:
    cfg = seven("learner.ranks=4", f"learner.zero_stage={stage}", "loss.kl_coef=0.01", "learner.micro_batch_tokens=65536")
    found = sizes(learner_memory(cfg, shape(), detect(cfg, "cuda"), WORST, GIB))
    assert found["weights"] == found["reference model"] == weights * SEVEN
    assert found["float32 weights of the optimizer"] == master * SEVEN
    assert found["AdamW's two moments"] == moments * SEVEN
    assert found["gradients"] == gradients * SEVEN


def test_in_float32_stage_0_keeps_16_bytes_a_parameter_and_the_steps_copy(make_config: Callable[..., Config]) -> None:
    cfg = make_config("learner.zero_stage=0", "algorithm=grpo", "learner.micro_batch_tokens=35")  # the step is the peak
    found = sizes(learner_memory(cfg, shape(), detect(cfg, "cpu"), WORST, 0))
    kept = ("weights", "AdamW's two moments", "gradients", "the optimizer step's copies of gradients")
    assert [found[name] / SEVEN for name in kept] == [4, 8, 4, 4]
    assert "float32 weights of the optimizer" not in found and "gradient bucket" not in found


def test_a_micro_batch_has_no_more_tokens_than_a_step(make_config: Callable[..., Config]) -> None:
    cfg = make_config("algorithm=grpo")  # 32 prompts, here of 16 tokens, and 8 responses of 19 to each
    assert micro_batch_tokens(cfg, WORST) == 32 * (16 + 8 * 19)
    cfg.learner.shared_prefix = False
    assert micro_batch_tokens(cfg, WORST) == 32 * 8 * (16 + 19)
    cfg.learner.micro_batch_tokens = 1000
    assert micro_batch_tokens(cfg, WORST) == 1000
    cfg.rollout.max_tokens = 2000  # one sequence is longer than the budget: it goes alone
    assert micro_batch_tokens(cfg, WORST) == 2016


def test_a_typical_workload_keeps_half_and_few_exploration_responses(make_config: Callable[..., Config]) -> None:
    cfg = make_config()  # 8 responses a prompt, 16 more if it is difficult
    assert micro_batch_tokens(cfg, worst_case(16)) == 32 * (16 + 24 * 19)
    assert micro_batch_tokens(cfg, typical(8)) == 32 * (8 + 4.25 * 19)
    cfg.retention.min_abs_advantage = None  # every regular response is kept
    assert micro_batch_tokens(cfg, typical(8)) == 32 * (8 + 8.25 * 19)
    cfg.learner.ranks = cfg.learner.optimizer_steps = 2
    assert micro_batch_tokens(cfg, typical(8)) == 8 * (8 + 8.25 * 19)


def test_activations_are_what_autograd_keeps() -> None:
    torch.manual_seed(0)
    size = dict(hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, vocab_size=111)
    hf = Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **size)).train()
    policy, layout = Policy(hf, 256, 111), Layout(torch.device("cpu"), True)
    prompt, response = np.arange(3, 23, dtype=np.int32), np.arange(3, 63, dtype=np.int32)
    rows = layout.rows([[Continuation(group, prompt, response) for _ in range(8)] for group in range(2)], {})
    weights = {parameter.untyped_storage().data_ptr() for parameter in hf.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = policy(rows)
    measured = sum(storage.nbytes() for storage in kept.values())
    assert scores.logprobs_N.requires_grad and rows.tokens == 2 * (20 + 8 * 60)
    layers = Layers(count=3, hidden=128, intermediate=384, query=128, key=64, key_heads=2)
    assert layers.kept_bytes(4, keys=1 + 20 / 60) == 2 * 12 * 128 + 4 * (3 * 128 + 2 * 4 / 3 * 64 + 4 * 384)
    assert 3 * rows.tokens * layers.kept_bytes(4, keys=1 + 20 / 60) == pytest.approx(measured, rel=0.1)


def test_gradient_checkpointing_and_smaller_micro_batches_take_less(seven: Callable[..., Config]) -> None:
    def activations(*overrides: str) -> float:
        cfg = seven("train.prompts_per_step=1024", "learner.zero_stage=3", "learner.ranks=4", *overrides)
        found = sizes(learner_memory(cfg, shape_of(cfg.model), detect(cfg, "cuda"), WORST, GIB))
        return next(size for name, size in found.items() if name.startswith("activations"))

    layer = 2 * (4 * 3584 + 4 * 3584) + 2 * (3 * 3584 + 2 * (1 + 16 / 19) * 512 + 4 * 18944)
    assert activations() == pytest.approx(16384 * 30 * layer)  # 28 kept, 2 worked on
    assert activations("learner.gradient_checkpointing=true") == pytest.approx(16384 * (28 * 2 * 3584 + 3 * layer))
    assert activations("learner.micro_batch_tokens=8192") == pytest.approx(activations() / 2)


def test_an_engine_takes_its_share_of_a_gpu_and_splits_its_weights(seven: Callable[..., Config]) -> None:
    cfg = seven("rollout.tensor_parallel=2", "rollout.gpu_memory=0.5", "rollout.kv_cache_mb=null")
    found = sizes(engine_memory(cfg, shape(), detect(cfg, "cuda"), GIB, 80 * GIB))
    buffers = found.pop("buffers of the weight sync")
    assert found["weights"] == SEVEN and buffers == 2 * GIB
    assert sum(found.values()) == pytest.approx(40 * GIB)
    cfg.rollout.kv_cache_mb = 1024
    assert sizes(engine_memory(cfg, shape(), detect(cfg, "cuda"), GIB, 80 * GIB))["KV cache"] == GIB


def test_on_cpu_an_engine_has_its_weights_twice_and_the_configured_cache(make_config: Callable[..., Config]) -> None:
    cfg = make_config("rollout.kv_cache_mb=null")
    found = sizes(engine_memory(cfg, shape_of(cfg.model), detect(cfg, "cpu"), 0))
    assert found["weights"] == found["weights packed for vLLM's CPU kernels"] == 4 * 802_816
    assert found["KV cache"] == 512 * MIB


def test_colocated_engine_and_learner_add_up_on_one_gpu(seven: Callable[..., Config]) -> None:
    apart = seven("learner.ranks=4", "rollout.engines=4", "learner.zero_stage=3")
    learner, engine = gpu_estimates(apart, shape(), detect(apart, "cuda"), WORST, 80 * GIB)
    assert (learner.device, engine.device) == ("4 learner GPUs", "4 engine GPUs")
    together = seven("learner.ranks=4", "rollout.engines=4", "learner.zero_stage=3", "cluster.placement=colocated")
    [shared] = gpu_estimates(together, shape(), detect(together, "cuda"), WORST, 80 * GIB)
    assert shared.device == "4 shared GPUs" and [holder.name for holder in shared.holders] == ["learner", "engine"]
    names = {allocation.name for holder in shared.holders for allocation in holder.allocations}
    assert "buffers of the weight sync" in names


def test_with_sleep_and_offload_each_turn_has_an_estimate(seven: Callable[..., Config]) -> None:
    settings = ("learner.ranks=4", "rollout.engines=4", "learner.zero_stage=2", "cluster.placement=colocated", "rollout.sleep=1")

    def turns(*more: str) -> dict[str, dict[str, float]]:
        cfg = seven(*settings, *more)
        found = gpu_estimates(cfg, shape(), detect(cfg, "cuda"), WORST, 80 * GIB)
        return {one.device.removeprefix("4 shared GPUs, "): {holder.name: holder.bytes for holder in one.holders} for one in found}

    weights = 2 * shape().parameters + 2 * max(256 << 20, 2 * shape().head)  # with the buffers of the weight sync
    states = 12 * shape().trained / 4
    found = turns("learner.offload=optimizer")
    assert list(found) == ["training", "weight sync", "sampling"]
    assert found["training"]["engine"] == GIB  # its process only
    assert found["weight sync"]["engine"] == GIB + 2 * shape().parameters
    assert found["weight sync"]["learner"] == GIB + weights + states
    assert found["sampling"]["learner"] == GIB + weights
    assert found["sampling"]["engine"] > found["weight sync"]["engine"]
    assert turns("learner.offload=all")["sampling"]["learner"] == GIB + weights - 2 * shape().parameters
    assert turns()["sampling"]["learner"] == GIB + weights + states
    on_host = turns("learner.cpu_offload=optimizer")
    assert on_host["weight sync"]["learner"] == GIB + weights
    slack = 1.08  # GPU_SLACK; gradients accumulate on the host, too
    assert found["training"]["learner"] - on_host["training"]["learner"] == pytest.approx(slack * (states + shape().trained))


def test_the_machine_holds_every_actor(make_config: Callable[..., Config]) -> None:
    cfg = make_config("rollout.engines=2", "learner.ranks=2", "reward.workers=3")
    estimate = host_estimate(cfg, shape_of(cfg.model), detect(cfg, "cpu"), WORST, store=0)
    counts = {holder.name: holder.count for holder in estimate.holders}
    assert (counts["engine"], counts["learner"], counts["grader"]) == (2, 2, 3)
    assert estimate.bytes == sum(holder.count * sum(allocation.bytes for allocation in holder.allocations) for holder in estimate.holders)


def test_the_smallest_gpu_that_is_large_enough_is_named(seven: Callable[..., Config]) -> None:
    cfg = seven("learner.ranks=4", "learner.zero_stage=3", "learner.gradient_checkpointing=true", "rollout.kv_cache_mb=null")
    assert smallest_gpu(cfg, shape(), detect(cfg, "cuda"), WORST) == 48
    assert smallest_gpu(cfg, shape(70 * SEVEN), detect(cfg, "cuda"), WORST) is None


def test_a_device_that_is_too_small_is_named_with_advice(seven: Callable[..., Config]) -> None:
    lines, notes = memory_report(seven("learner.ranks=1"), 23 * GIB, None, PROMPTS)
    assert any("of 23.0 GiB, on this machine without a GPU" in line for line in lines)
    assert notes[0].startswith("this machine's memory: ") and "learner.gradient_checkpointing=true" in notes[0]
    _, notes = memory_report(seven("learner.ranks=1"), 23 * GIB, 80 * GIB, PROMPTS)
    assert notes[0].startswith("1 learner GPU: ") and "more learner.ranks with learner.zero_stage=3" in notes[0]
    assert memory_report(seven("model.path=assets/countdown"), 23 * GIB, None, PROMPTS)[1] == []


def test_a_setting_that_cpus_lack_is_a_note_and_gpus_are_still_estimated(seven: Callable[..., Config]) -> None:
    lines, notes = memory_report(seven("weights.backend=nccl"), 23 * GIB, None, PROMPTS)
    assert notes[0].startswith("not for this machine, which has no GPU: weights.backend=nccl needs CUDA devices")
    assert any(line.startswith("  1 learner GPU:") for line in lines)
