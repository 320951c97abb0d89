"""LearnerActor with a third PolicyModel, low-rank adapters, on real DeepSpeed: only what the contract names is trained and published."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from actors.workers.learner import LearnerActor
from tests.support.adapter_policy import AdapterPolicy
from tests.support.learner_ranks import assert_close, assert_equal, weights
from tests.support.text_learner import ADVANTAGES, ROWS, WORDS, plans
from uec.models.policy_model import PolicyModel
from uec.types import Continuation

pytestmark = pytest.mark.e2e

SEQUENCES = [Continuation(row.prompt, row.prompt_tokens, row.tokens) for row in ROWS]


class AdapterLearner(LearnerActor):
    def _load_policy_model(self, platform: Any) -> PolicyModel:
        return AdapterPolicy(self._load_policy(platform))


def trained_saved_and_loaded(learner: LearnerActor, shares: list[Any], folder: str) -> SimpleNamespace:
    before = weights(learner)
    metrics = [learner.update(shares[learner.rank], ROWS)[0] for _ in range(2)]
    update = learner.publish(1)
    learner.save(f"{folder}/state")
    learner.save_hf(f"{folder}/hf")
    logprobs, _ = learner.logprobs(SEQUENCES)
    after = weights(learner)
    learner.update(shares[learner.rank], ROWS)
    learner.load(f"{folder}/state")
    return SimpleNamespace(before=before, metrics=metrics, update=update, logprobs=logprobs, after=after, loaded=weights(learner))


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_adapters_are_trained_published_and_saved_without_a_second_model(two, cfg, tmp_path: Path, stage: int) -> None:
    settings = cfg(f"learner.zero_stage={stage}", "learner.lr=1e-2", "loss.kl_coef=1")
    found = two.run(trained_saved_and_loaded, settings, plans(ROWS, ADVANTAGES, ranks=2), str(tmp_path), actor=AdapterLearner)
    first = found[0]
    adapters = {name for name in first.before if name.endswith((".up", ".down"))}
    assert len(adapters) == 4 and set(first.update.names) == adapters
    assert_equal(*({name: tensors[name] for name in tensors.keys() - adapters} for tensors in (first.before, first.after)))
    assert all((first.after[name] != first.before[name]).any() for name in adapters)
    assert first.metrics[0]["policy/kl"] == pytest.approx(0, abs=1e-9) and first.metrics[1]["policy/kl"] > 1e-7
    assert_equal(first.loaded, first.after)
    assert_close(found[1].after, first.after, atol=0)
    hf = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    for one, ours in zip(SEQUENCES, first.logprobs, strict=True):
        ids = torch.tensor([*one.prompt_tokens, *one.tokens])[None]
        with torch.no_grad():
            logprobs_TV = hf(input_ids=ids).logits[0, len(one.prompt_tokens) - 1 : -1, :WORDS].log_softmax(-1)
        theirs = logprobs_TV.gather(1, ids[0, len(one.prompt_tokens) :, None])[:, 0]
        torch.testing.assert_close(theirs, torch.from_numpy(ours), atol=1e-4, rtol=0)
