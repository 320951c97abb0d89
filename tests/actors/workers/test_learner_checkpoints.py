"""Training states, exported checkpoints and published weights of a learner on real DeepSpeed, ZeRO 0 to 3."""

import json

import pytest
import torch

from tests.support.learner_ranks import assert_close, assert_equal, loading_fails, saved_tensors
from tests.support.text_learner import (
    ADVANTAGES,
    ROWS,
    TEMPLATE,
    exported,
    loaded_and_continued,
    plans,
    published_update,
    rollouts,
    saved_and_continued,
    trained_and_saved,
)

RUNS = [("float32", 0), ("float32", 1), ("bfloat16", 3)]


@pytest.mark.e2e
@pytest.mark.parametrize("dtype, stage", RUNS)
def test_a_resumed_learner_goes_on_bit_for_bit(two, cfg, tmp_path, dtype, stage):
    before = [(plans(rows, ADVANTAGES, ranks=2), rows) for rows in (rollouts(12, seed=1), rollouts(12, seed=2))]
    after = [(plans(rows, ADVANTAGES, ranks=2), rows) for rows in (rollouts(12, seed=3), rollouts(12, seed=4))]
    make = (f"model.dtype={dtype}", f"learner.zero_stage={stage}", "learner.warmup_steps=8", "learner.weight_decay=0.1")
    straight = two.run(saved_and_continued, cfg(*make), before, after, str(tmp_path))
    resumed = two.run(loaded_and_continued, cfg(*make, "run.seed=9"), after, str(tmp_path))
    for rank in (0, 1):
        assert resumed[rank].state == (2, 5)
        assert resumed[rank].metrics[-1]["policy/lr"] == pytest.approx(2e-4 * 4 / 8)
        assert_equal(resumed[rank].weights, straight[rank].weights)
        torch.testing.assert_close(resumed[rank].random, straight[rank].random, atol=0, rtol=0)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}  # no file that can run code when it is loaded


@pytest.mark.e2e
def test_a_checkpoint_resumes_on_other_ranks_and_stages(one, two, cfg, tmp_path):
    before, after = rollouts(12, seed=1), rollouts(12, seed=2)
    batches = [[(plans(rows, ADVANTAGES, ranks=ranks), rows)] for rows in (before, after) for ranks in (1, 2)]
    straight = two.run(saved_and_continued, cfg("learner.zero_stage=3"), batches[1], batches[3], str(tmp_path))[0]
    saved = saved_tensors(tmp_path, "weight")
    for stage in (0, 2):
        [resumed] = one.run(loaded_and_continued, cfg(f"learner.zero_stage={stage}"), batches[2], str(tmp_path))
        assert_equal({name: t.flatten() for name, t in resumed.start.items()}, saved)
        assert_close(resumed.weights, straight.weights, atol=1e-5)
    resumed = two.run(loaded_and_continued, cfg("learner.zero_stage=1"), batches[3], str(tmp_path))[1]
    assert_close(resumed.weights, straight.weights, atol=1e-5)


@pytest.mark.e2e
def test_a_checkpoint_of_another_model_or_none_at_all_is_refused(one, cfg, tmp_path):
    assert "BadInput" in one.run(loading_fails, cfg(), str(tmp_path / "missing"))[0]
    one.run(trained_and_saved, cfg(), [(plans(ROWS, ADVANTAGES), ROWS)], str(tmp_path))
    contents = json.loads((tmp_path / "learner.json").read_text())
    contents["parameters"]["model.norm.weight"] = [64]
    (tmp_path / "learner.json").write_text(json.dumps(contents))
    [said] = one.run(loading_fails, cfg(), str(tmp_path))
    assert said.startswith("BadInput") and "of another model" in said and "model.norm.weight" in said
    (tmp_path / "learner.json").write_text(json.dumps(contents | {"format": 1}))
    [said] = one.run(loading_fails, cfg(), str(tmp_path))
    assert said.startswith("BadInput") and "has format 1, this version reads 2" in said


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [3])
def test_an_exported_policy_loads_in_plain_transformers(two, cfg, tmp_path, stage):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    held, _ = two.run(exported, cfg(f"learner.zero_stage={stage}"), plans(ROWS, ADVANTAGES, ranks=2), ROWS, str(tmp_path))
    hf = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert_equal({name: parameter.detach() for name, parameter in hf.named_parameters()}, held)
    assert hf.config.attention_dropout == 0.1  # as in the user's model
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == TEMPLATE
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == [2, 3]
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.e2e
def test_every_stage_publishes_the_same_whole_weights(two, cfg):
    said = [two.run(published_update, cfg(f"learner.zero_stage={stage}"), plans(ROWS, ADVANTAGES, ranks=2), ROWS) for stage in (0, 3)]
    for first, second in said:
        assert second is None  # only rank 0 returns the update
        assert "lm_head.weight" not in first.names and first.names[0] == "model.embed_tokens.weight"
        assert first.shapes[0] == [48, 32]
    assert (said[0][0].names, said[0][0].shapes, said[0][0].nbytes) == (said[1][0].names, said[1][0].shapes, said[1][0].nbytes)
