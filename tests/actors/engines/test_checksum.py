"""Checksums of vLLM's engines of both kinds, in bfloat16 without oneDNN's kernels for it: vLLM then keeps every matrix as a parameter."""

import sys
from pathlib import Path

import numpy as np
import pytest
import ray
import torch

from actors.weights.shm import ShmPublisher
from actors.workers.rollout import RolloutActor, environment
from uec.config.file import load_config
from uec.types import Prompt

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.long,
    pytest.mark.skipif(torch.cpu._is_amx_tile_supported(), reason="with AMX, vLLM packs small matrices and drops the parameters"),
]


@pytest.fixture
def engines(project: Path):
    """An engine in the actor and an AsyncLLM, in bfloat16, and one in float32."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    common = [f"model.path={project / 'assets/countdown'}", "rollout.max_tokens=8", "rollout.kv_cache_mb=32", "learner.zero_stage=1"]
    made = []
    for kind, dtype in (("in_actor", "bfloat16"), ("async", "bfloat16"), ("in_actor", "float32")):
        cfg = load_config(project / "configs/llm.yaml", [*common, f"rollout.backend={kind}", f"model.dtype={dtype}"])
        variables = {**environment(cfg, 0), "ONEDNN_MAX_CPU_ISA": "AVX2"}
        options = {"num_cpus": 0.5, "max_concurrency": 100, "runtime_env": {"env_vars": variables}}
        made.append(ray.remote(RolloutActor).options(**options).remote(cfg, 0))
    prompts = [Prompt(0, "", np.arange(3, 8, dtype=np.int32), "", {})]
    ray.get([engine.start.remote(prompts) for engine in made])
    yield made
    ray.shutdown()


def test_checksums_of_equal_weights_are_equal_in_both_kinds_and_follow_an_update(engines, project, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(project / "assets/countdown", dtype=torch.bfloat16)
    publisher = ShmPublisher(0, tmp_path)

    def checksums() -> list[str]:
        return ray.get([engine.checksum.remote() for engine in engines])

    def publish(version: int) -> list[str]:
        update = publisher.publish(version, model.named_parameters())
        ray.get([engine.update_weights.remote(update) for engine in engines[:2]])
        return checksums()[:2]

    *first, incomplete = checksums()
    assert incomplete == ""  # float32: vLLM keeps packed matrices only
    assert first[0] == first[1] != ""
    assert publish(1) == first  # the initial weights again
    weight = model.model.layers[0].mlp.down_proj.weight.detach()
    weight[0, 0] += 1  # one number of one tensor
    changed = publish(2)
    assert changed[0] == changed[1] != first[0]
    weight[0, 0] -= 1
    publisher.close()
