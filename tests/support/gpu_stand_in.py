"""A stand-in for a GPU, so that the checks of `uec doctor --gpu` run on a CPU: a tiny model, shared memory in place of CUDA IPC and NCCL,
and a file in place of a GPU's memory. Everything else is real: vLLM, DeepSpeed and Ray.
"""

from pathlib import Path
from typing import Any

from actors.programs.gpu.measured import AttentionLearner, MeasuredLearner
from actors.programs.gpu.rig import Rig
from actors.workers.rollout import RolloutActor
from uec.config.schema import Config

DEVICE = 10 << 30
LEARNER, WEIGHTS, KV_CACHE = 1 << 30, 1 << 30, 3 << 29  # bytes on the GPU that is not there: 3.5 GiB, of 4.1 estimated

TINY = {
    "vocab_size": 112, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": True, "initializer_range": 0.1,
}  # fmt: skip


class StandInEngine(RolloutActor):
    """An engine whose sleep and wake change the file in place of a GPU's memory."""

    async def sleep(self) -> None:
        _awake(self.cfg).write_text("")

    async def wake(self, part: Any) -> None:
        file = _awake(self.cfg)
        file.write_text(f"{file.read_text()} {part}")


class StandInLearner(MeasuredLearner):
    """A learner that reads the file in place of a GPU's memory."""

    def device_bytes(self) -> int:
        return _bytes(self.cfg)


class StandInAttentionLearner(AttentionLearner):
    """The same for the comparison of attention."""

    def device_bytes(self) -> int:
        return _bytes(self.cfg)


def cpu_rig(**changes: Any) -> Rig:
    """Return a rig that runs on two CPU cores in two minutes."""
    settings = {
        "device": "cpu", "gpus": 2, "device_bytes": DEVICE, "dtype": "float32", "shape": TINY, "words": 100, "prompts": 10, "groups": 4,
        "responses": 4, "prompt_tokens": (5, 20), "response_tokens": (3, 30), "kinds": ("blocks",), "tensor_parallel": 1,
        "engine": StandInEngine, "learner": StandInLearner, "attention_learner": StandInAttentionLearner, "judges_speed": False,
        "least_tokens_per_s": 1.0, "patience": 5.0,
        "overrides": (
            "rollout.kv_cache_mb=32", "rollout.max_num_seqs=64", "rollout.max_batched_tokens=512", "learner.micro_batch_tokens=256",
            "learner.lr=1e-3", "cluster.object_store_mb=100",
        ),
    }  # fmt: skip
    return Rig(**{**settings, **changes})


def _awake(cfg: Config) -> Path:
    """Return the file that names the parts of the engine that hold memory; without it, all do."""
    return Path(cfg.run.dir) / "awake"


def _bytes(cfg: Config) -> int:
    file = _awake(cfg)
    awake = file.read_text() if file.exists() else "weights kv_cache"
    return LEARNER + WEIGHTS * ("weights" in awake) + KV_CACHE * ("kv_cache" in awake)
