"""The settings that the driver resolves from the cluster's GPUs: placement, the engine's share of a GPU, sequences of an engine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.model_folders import model_folder
from uec.config.schema import Config
from uec.config.validate import check_cluster, validate
from uec.errors import BadInput
from uec.memory.allocations import GIB
from uec.memory.gpus import PROCESS, gpu_estimates
from uec.memory.learner_memory import learner_memory
from uec.memory.placement import resolve_placement
from uec.memory.shape import shape_of
from uec.memory.workload import worst_case
from uec.system.gpu_devices import Gpu
from uec.system.platform import detect, sequences

H100 = Gpu("NVIDIA H100 80GB HBM3", 80 * GIB)
A100 = Gpu("NVIDIA A100-SXM4-80GB", 80 * GIB)
RTX4090 = Gpu("NVIDIA GeForce RTX 4090", 24 * GIB)


@pytest.mark.parametrize(
    ("overrides", "gpus", "placement"),
    [
        ([], 0, "separate"),
        ([], 1, "colocated"),
        ([], 2, "separate"),
        (["rollout.engines=2", "learner.ranks=2"], 3, "colocated"),
        (["rollout.engines=2", "learner.ranks=2"], 1, "separate"),
        (["rollout.engines=2"], 2, "separate"),
        (["rollout.tensor_parallel=2"], 2, "separate"),
        (["weights.backend=ipc"], 8, "colocated"),
        (["weights.backend=nccl"], 1, "separate"),
        (["cluster.placement=separate"], 1, "separate"),
        (["cluster.placement=colocated"], 8, "colocated"),
    ],
)
def test_auto_shares_gpus_only_if_there_are_too_few(
    make_config: Callable[..., Config], overrides: list[str], gpus: int, placement: str
) -> None:
    cfg = make_config(*overrides)
    validate(cfg)
    resolve_placement(cfg, gpus, H100 if gpus else None)
    assert cfg.cluster.placement == placement


def test_a_run_on_one_gpu_is_accepted_and_says_what_was_chosen(make_config: Callable[..., Config]) -> None:
    cfg = make_config("rollout.max_num_seqs=null")
    lines = resolve_placement(cfg, 1, H100)
    check_cluster(cfg, 2, 1)
    assert detect(cfg, "cuda").weights == "ipc"
    assert lines[0] == "cluster.placement=colocated: the cluster has 1 GPU, and separate ones would be 2"
    assert lines[1] == "rollout.max_num_seqs=1024: vLLM's number for NVIDIA H100 80GB HBM3"
    assert lines[2] == "rollout.gpu_memory=0.85: what the learner's estimate leaves of 80.0 GiB"
    assert resolve_placement(cfg, 1, H100) == [], "a resolved config is not resolved again"


def test_an_engine_gets_what_the_learner_leaves_of_a_shared_gpu(make_config: Callable[..., Config], tmp_path: Path) -> None:
    path = model_folder(tmp_path / "model", "Qwen2.5-1.5B-Instruct")
    small = ("learner.gradient_checkpointing=true", "rollout.kv_cache_mb=null", "cluster.placement=colocated")
    cfg = make_config(f"model.path={path}", *small)
    shape, platform, workload = shape_of(cfg.model), detect(cfg, "cuda"), worst_case(cfg.data.max_prompt_tokens)
    learner = sum(allocation.bytes for allocation in learner_memory(cfg, shape, platform, workload, PROCESS))
    [before] = gpu_estimates(cfg, shape, platform, workload, H100.bytes)
    resolve_placement(cfg, 1, H100)
    assert cfg.rollout.gpu_memory == int(100 * (1 - learner / H100.bytes - 0.02)) / 100
    assert 0.3 < cfg.rollout.gpu_memory < 0.85
    [after] = gpu_estimates(cfg, shape, platform, workload, H100.bytes)
    assert after.bytes == before.bytes <= H100.bytes, "the dry run estimates with the same share"


def test_a_gpu_too_small_for_both_is_said_with_the_settings_that_help(make_config: Callable[..., Config], tmp_path: Path) -> None:
    cfg = make_config(f"model.path={model_folder(tmp_path / 'model', 'Qwen2.5-7B-Instruct')}", "rollout.kv_cache_mb=null")
    *_, line = resolve_placement(cfg, 1, RTX4090)
    assert "may need " in line and "more than this GPU has" in line and "learner.gradient_checkpointing=true" in line


def test_a_shared_gpu_of_unknown_memory_gives_the_engine_two_fifths(make_config: Callable[..., Config]) -> None:
    cfg = make_config()
    resolve_placement(cfg, 1, None)
    assert (cfg.rollout.gpu_memory, cfg.rollout.max_num_seqs) == (0.4, 512)


def test_given_values_stay_and_an_evaluations_engine_has_its_gpu_alone(make_config: Callable[..., Config]) -> None:
    cfg = make_config("rollout.gpu_memory=0.3", "cluster.placement=colocated")
    assert resolve_placement(cfg, 1, H100) == [] and cfg.rollout.gpu_memory == 0.3
    cfg = make_config()
    resolve_placement(cfg, 1, H100, together=False)
    assert (cfg.cluster.placement, cfg.rollout.gpu_memory) == ("separate", 0.85)


def test_without_gpus_nothing_else_is_resolved(make_config: Callable[..., Config]) -> None:
    cfg = make_config("rollout.max_num_seqs=null")
    assert resolve_placement(cfg, 0, None) == []
    assert (cfg.rollout.gpu_memory, cfg.rollout.max_num_seqs, sequences(cfg)) == (None, None, 256)


@pytest.mark.parametrize(("gpu", "number"), [(None, 256), (RTX4090, 256), (A100, 256), (H100, 1024)])
def test_sequences_are_those_of_vllms_table(make_config: Callable[..., Config], gpu: Gpu | None, number: int) -> None:
    assert sequences(make_config("rollout.max_num_seqs=null"), gpu) == number
    assert sequences(make_config("rollout.max_num_seqs=7"), gpu) == 7


def test_a_misfit_names_the_settings_to_change(make_config: Callable[..., Config]) -> None:
    cfg = make_config("rollout.engines=2", "learner.ranks=2")
    resolve_placement(cfg, 1, H100)
    with pytest.raises(BadInput, match=r"wants 4 GPUs and the cluster has 1: .* lower them, or share the GPUs with "):
        check_cluster(cfg, 8, 1)
    cfg = make_config("rollout.engines=2", "learner.ranks=2", "cluster.placement=colocated")
    with pytest.raises(BadInput, match=r"wants 2 GPUs and the cluster has 1: .* lower rollout.engines and learner.ranks together"):
        check_cluster(cfg, 8, 1)
    with pytest.raises(BadInput, match="needs rollout.tensor_parallel=1 and as many rollout.engines as learner.ranks"):
        check_cluster(make_config("rollout.tensor_parallel=2"), 8, 2)
    with pytest.raises(BadInput, match=r"weights.backend=ipc needs engine and learner on one GPU: rollout.engines=2"):
        validate(make_config("weights.backend=ipc", "rollout.engines=2"))
