"""What a LearnerActor does around its engine, with stand-ins for engine and publisher."""

from types import SimpleNamespace

import pytest

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
    monkeypatch.setattr("uec.models.training_state.save_state", recorded("save", None))
    monkeypatch.setattr("uec.models.training_state.load_state", recorded("load", (0, 0)))
    monkeypatch.setattr("uec.models.hf_checkpoint.save_pretrained", recorded("save_hf", None))
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
