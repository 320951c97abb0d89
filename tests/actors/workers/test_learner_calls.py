"""What a LearnerActor does around its engine, with stand-ins for engine and publisher."""

import threading
import time
from types import SimpleNamespace

import pytest
import torch

from actors.workers.learner import LearnerActor, environment
from uec.config.schema import Config
from uec.types import UpdatePlan

EMPTY = UpdatePlan([], [], [], [])


def test_a_learners_process_prefers_other_attention_kernels_to_cudnns():
    # torch reads it in sdp_utils.cpp (check_prefer_cudnn_attention), once per process.
    assert environment(Config(), 0)["TORCH_CUDNN_SDPA_DEPRIORITIZED"] == "1"


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def learner(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> LearnerActor:
    """A learner that records waits for its publisher, and what it computes or writes."""

    def recorded(name: str, answer: object) -> object:
        return lambda *args, **kwargs: calls.append(name) or answer

    actor = LearnerActor(Config(), 0)
    actor.publisher = SimpleNamespace(wait=recorded("wait", None))
    actor.engine = actor.layout = actor.policy = actor.tokenizer = actor.processor = SimpleNamespace(processor=None, hf=None)
    actor.policy_model = SimpleNamespace(trainable=lambda: iter([]), complete=lambda: iter([]))
    actor._update = SimpleNamespace(run=recorded("update", ({}, {})))
    monkeypatch.setattr("uec.models.update.mean_entropy", recorded("entropy", 0.0))
    monkeypatch.setattr("uec.models.update.response_entropies", recorded("entropies", {}))
    monkeypatch.setattr("uec.models.policy.sequence_logprobs", recorded("logprobs", ([], [])))
    monkeypatch.setattr("uec.models.training_state.snapshot", recorded("save", SimpleNamespace(write=lambda folder: None)))
    monkeypatch.setattr("uec.models.training_state.load_state", recorded("load", (0, 0)))
    monkeypatch.setattr("uec.models.hf_checkpoint.collect", recorded("save_hf", {}))
    monkeypatch.setattr("uec.models.hf_checkpoint.save_pretrained", lambda *args: None)
    return actor


CALLS = {
    "update": (EMPTY,), "entropy": (EMPTY,), "entropies": (EMPTY,), "logprobs": ([],), "save": ("x",), "load": ("x",), "save_hf": ("x",),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_learner_waits_for_its_broadcast_before_another_collective(learner, calls, name):
    getattr(learner, name)(*CALLS[name])
    assert calls == ["wait", name]


@pytest.mark.parametrize("name", ["entropies", "logprobs"])
def test_a_learner_for_inference_has_no_publisher_to_wait_for(learner, calls, name):
    learner.inference_only = True
    del learner.publisher
    getattr(learner, name)(*CALLS[name])
    assert calls == [name]


class RecordedEngine:
    """A stand-in for DeepSpeed's engine on a GPU under ZeRO 1 to 3."""

    def __init__(self, stage: int, calls: list[str]) -> None:
        self.stage, self.calls = stage, calls
        self.optimizer = SimpleNamespace(
            offloaded_states=set(),
            fp32_partitioned_groups_flat=[torch.ones(3)],
            optimizer=SimpleNamespace(state={"master": {"exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)}}),
            lp_param_buffer=torch.arange(4.0),
            fp16_partitioned_groups_flat=["view"],
            _get_parameter_partitions=lambda: self.partitions,
        )
        buffer = self.optimizer.lp_param_buffer
        self.partitions = [buffer[:1], buffer[1:]]

    def zero_optimization_stage(self) -> int:
        return self.stage

    def zero_use_cpu_optimizer(self) -> bool:
        return False

    def offload_states(self, include: list, pin_memory: bool) -> None:
        self.calls.append(f"offload {' '.join(sorted(state.value for state in include))}")

    def reload_states(self) -> None:
        self.calls.append("reload")


@pytest.mark.parametrize("stage, offload, moved", [
    (1, "optimizer", "hp_params lp_grads optim_states"),
    (2, "all", "hp_params lp_grads lp_params optim_states"),
    (3, "optimizer", "contiguous_grad_buffer lp_grads"),
    (3, "all", "contiguous_grad_buffer lp_grads"),
])  # fmt: skip
def test_states_leave_after_the_broadcast_and_come_back(learner, calls, stage, offload, moved):
    learner.cfg.learner.offload = offload
    learner.engine = RecordedEngine(stage, calls)
    learner.offload()
    zero = learner.engine.optimizer
    if stage == 3:  # which DeepSpeed would refuse for an optimizer other than its own
        names = {"hp_params", "optim_states"} | ({"lp_params"} if offload == "all" else set())
        assert {state.value for state in zero.offloaded_states} == names
        assert zero.fp16_partitioned_groups_flat == ([] if offload == "all" else ["view"])
        assert [part.tolist() for part in learner.engine.partitions] == [[0.0], [1.0, 2.0, 3.0]]
        if offload == "all":
            assert all(part.untyped_storage().data_ptr() == zero.lp_param_buffer.data_ptr() for part in learner.engine.partitions)
    learner.reload()
    assert calls == ["wait", f"offload {moved}", "reload"]


def test_without_learner_offload_nothing_moves_after_the_broadcast(learner, calls):
    learner.offload()
    learner.reload()
    assert calls == ["wait"]


def test_files_are_written_while_the_learner_goes_on_and_errors_come_out(learner, monkeypatch):
    learner.background_writes = True
    begin, written = threading.Event(), []

    def write(folder):
        assert begin.wait(60)
        written.append(folder)

    monkeypatch.setattr("uec.models.training_state.snapshot", lambda *args, copy: SimpleNamespace(write=write) if copy else None)
    learner.save("state")
    assert (learner.written(), written) == (False, [])
    learner.update(EMPTY)  # does not wait
    begin.set()
    while not learner.written():
        time.sleep(0.01)
    assert [str(folder) for folder in written] == ["state"]

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("uec.models.hf_checkpoint.save_pretrained", full)
    learner.save_hf("hf")
    with pytest.raises(OSError, match="No space left"):
        while not learner.written():
            time.sleep(0.01)
    assert learner.written()  # the error came out once
