"""The learner on real DeepSpeed: one and two ranks, ZeRO 0 to 3, against plain torch on a tiny random Qwen2."""

import json
import math
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from actors.workers.learner import LearnerActor
from uec.config.file import load_config
from uec.config.schema import Config, LearnerConfig
from uec.errors import BadInput, RunFailed
from uec.models.packing import Length, plan
from uec.models.update import learning_rate
from uec.types import Continuation, Kind, Plan, Rollout, Sample

WORDS = 40
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embedding tied to the head and padded beyond the tokenizer: 48 rows for 40 tokens."""
    from tokenizers import Tokenizer, models
    from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.1, eos_token_id=2, pad_token_id=0, bos_token_id=None,
        attention_dropout=0.1,
    )  # fmt: skip
    hf = Qwen2ForCausalLM(config)
    hf.generation_config = GenerationConfig(eos_token_id=[2, 3])
    hf.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w1"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w2", pad_token="w0", chat_template=TEMPLATE).save_pretrained(folder)
    return folder


class Ranks:
    """Processes that meet as the ranks of one learner after the other; DeepSpeed is imported once in each."""

    def __init__(self, count: int) -> None:
        self.pools = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(count)]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = ("127.0.0.1", probe.getsockname()[1])

    def run(self, scenario: Callable[..., Any], cfg: Config, *args: Any) -> list[Any]:
        """What `scenario(learner, *args)` returned on each rank, its learner started from cfg."""
        cfg.learner.ranks = len(self.pools)
        calls = [pool.submit(_rank, scenario, cfg, rank, self.address, *args) for rank, pool in enumerate(self.pools)]
        return [call.result(timeout=300) for call in calls]


def _rank(scenario: Callable[..., Any], cfg: Config, rank: int, address: tuple[str, int], *args: Any) -> Any:
    learner = LearnerActor(cfg, rank)
    learner.start(address)
    try:
        return scenario(learner, *args)
    finally:
        learner.publisher.close()


@pytest.fixture(scope="module")
def one() -> Iterator[Ranks]:
    yield from _ranks(1)


@pytest.fixture(scope="module")
def two() -> Iterator[Ranks]:
    yield from _ranks(2)


def _ranks(count: int) -> Iterator[Ranks]:
    ranks = Ranks(count)
    yield ranks
    for pool in ranks.pools:
        pool.shutdown()


@pytest.fixture
def cfg(model: Path, project: Path) -> Callable[..., Config]:
    def make(*overrides: str) -> Config:
        settings = [f"model.path={model}", "learner.lr=2e-4", "learner.zero_stage=1", "learner.grad_clip=1000", *overrides]
        return load_config(project / "configs/llm.yaml", settings)

    return make


def rollouts(count: int, seed: int = 0, **changes: Any) -> list[Rollout]:
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        prompt, response = (rng.integers(4, WORDS, rng.integers(2, 9), dtype=np.int32) for _ in range(2))
        fields = {"temperature": 1.0, "logprobs": np.zeros(len(response), np.float32), "version": 0, **changes}
        made.append(Rollout(0, index, index, Kind.REGULAR, prompt_tokens=prompt, tokens=response, truncated=False, **fields))
    return made


def plans(
    rows: list[Rollout], advantages: list[float], ranks: int = 1, budget: int = 10_000, steps: int = 1, admit: bool = False
) -> list[Plan]:
    batch = [Length(row.prompt, len(row.prompt_tokens), len(row.tokens)) for row in rows]
    shares = plan(batch, ranks, budget, steps, seed=0)
    samples = [[Sample(0, i, advantages[i], admit=admit) for i in share.responses] for share in shares]
    return [Plan(mine, share.steps, share.tokens, share.counts) for mine, share in zip(samples, shares, strict=True)]


ROWS = rollouts(12)
ADVANTAGES = np.random.default_rng(1).normal(size=12).tolist()


class Plain:
    """The same training in plain torch: one batch, no padding, no DeepSpeed."""

    def __init__(self, model: Path, lr: float = 2e-4, clip: float = 1000.0) -> None:
        from transformers import AutoModelForCausalLM

        self.hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.adamw = torch.optim.AdamW(self.hf.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.clip = clip

    def logprobs(self, row: Rollout, temperature: float = 1.0) -> Tensor:
        ids = torch.from_numpy(np.concatenate([row.prompt_tokens, row.tokens])).long()[None]
        logits_TV = self.hf(input_ids=ids).logits[0, len(row.prompt_tokens) - 1 : -1, :WORDS]
        return (logits_TV / temperature).log_softmax(-1).gather(1, torch.from_numpy(row.tokens).long()[:, None])[:, 0]

    def detached(self, rows: list[Rollout]) -> list[Tensor]:
        with torch.no_grad():
            return [self.logprobs(row) for row in rows]

    def step(self, loss: Tensor) -> float:
        self.adamw.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.hf.parameters(), self.clip)
        self.adamw.step()
        return float(norm)

    def policy_gradient(self, rows: list[Rollout], advantages: list[float]) -> Tensor:
        """-A logp, a mean over all tokens."""
        total = sum(-a * self.logprobs(row).sum() for row, a in zip(rows, advantages, strict=True))
        return total / sum(len(row.tokens) for row in rows)

    def surrogate(self, rows: list[Rollout], advantages: list[float], old: list[Tensor]) -> Tensor:
        """GRPO's clipped surrogate with dual clip 3, written out token by token."""
        loss = torch.zeros(())
        for row, a, old_T in zip(rows, advantages, old, strict=True):
            for ratio in (self.logprobs(row) - old_T).exp():
                kept = min(ratio * a, ratio.clamp(0.8, 1.2) * a)
                loss = loss - (max(kept, torch.tensor(3.0 * a)) if a < 0 else kept)
        return loss / sum(len(row.tokens) for row in rows)

    def weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.hf.named_parameters()}


def close(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    close(ours, theirs, atol=0)


def saved_tensors(folder: Path, kind: str) -> dict[str, Tensor]:
    """By parameter: its `weight`, `exp_avg` or `exp_avg_sq` in a saved state, flat."""
    tensors = [load_file(path) for path in folder.glob("state-*.safetensors")]
    return {name.removeprefix(f"{kind}/"): tensor for file in tensors for name, tensor in file.items() if name.startswith(f"{kind}/")}


def gradients(folder: Path) -> dict[str, Tensor]:
    """Of the only step taken before saving: AdamW's exp_avg is then (1 - beta1) times the gradient."""
    return {name: tensor / 0.1 for name, tensor in saved_tensors(folder, "exp_avg").items()}


# Scenarios: what a rank does. They run in the processes of `Ranks`.


def weights(learner: LearnerActor) -> dict[str, Tensor]:
    from uec.models.deepspeed_engine import gathered

    return {name: tensor.clone() for name, tensor in gathered(learner.policy.hf.named_parameters())}


def trained(learner: LearnerActor, batches: list[tuple[list[Plan], list[Rollout]]]) -> SimpleNamespace:
    """Updates one after the other; metrics and old log-probabilities of each, and the weights at the end."""
    answers = [learner.update(shares[learner.rank], rows) for shares, rows in batches]
    return SimpleNamespace(metrics=[m for m, _ in answers], old=[old for _, old in answers], weights=weights(learner))


def trained_in_pieces(learner: LearnerActor, batches: list[tuple[list[Plan], list[Rollout]]]) -> SimpleNamespace:
    """With logits of at most seven tokens at once, so that the ranks have different numbers of pieces."""
    learner.policy.head.rows = 7
    return trained(learner, batches)


def published_then_trained(learner: LearnerActor, batches: list[tuple[list[Plan], list[Rollout]]]) -> SimpleNamespace:
    learner.publish(7)
    return trained(learner, batches)


def trained_and_saved(learner: LearnerActor, batches: list[tuple[list[Plan], list[Rollout]]], folder: str) -> SimpleNamespace:
    result = trained(learner, batches)
    learner.save(folder)
    return result


def saved_and_continued(learner: LearnerActor, before: Any, after: Any, folder: str) -> SimpleNamespace:
    trained(learner, before)
    learner.publish(5)
    learner.save(folder)
    torch.rand(3)  # what is drawn after the checkpoint is drawn again after a resume
    drawn = trained(learner, after)
    return SimpleNamespace(**vars(drawn), random=torch.rand(3))


def loaded_and_continued(learner: LearnerActor, after: Any, folder: str) -> SimpleNamespace:
    learner.load(folder)
    start = weights(learner)
    state = (learner.steps_done, learner.version)
    torch.rand(3)
    drawn = trained(learner, after)
    return SimpleNamespace(**vars(drawn), random=torch.rand(3), start=start, state=state)


def loading_fails(learner: LearnerActor, folder: str) -> str:
    try:
        learner.load(folder)
    except (BadInput, RunFailed) as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"


def scored(learner: LearnerActor, sequences: Any) -> Any:
    return learner.score(sequences)


def entropy(learner: LearnerActor, shares: list[Plan], rows: list[Rollout]) -> float:
    return learner.entropy(shares[learner.rank], rows)


def exported(learner: LearnerActor, shares: list[Plan], rows: list[Rollout], folder: str) -> dict[str, Tensor]:
    learner.update(shares[learner.rank], rows)
    learner.save_hf(folder)
    return weights(learner)


def failure(learner: LearnerActor, shares: list[Plan], rows: list[Rollout]) -> str:
    try:
        learner.update(shares[learner.rank], rows)
    except RunFailed as error:
        return str(error)
    return "trained"


def publication(learner: LearnerActor, shares: list[Plan], rows: list[Rollout]) -> Any:
    learner.update(shares[learner.rank], rows)
    return learner.publish(3)


# One rank, without an engine.


def test_the_learning_rate_warms_up_linearly_and_stays():
    settings = LearnerConfig(lr=8.0, warmup_steps=4)
    assert [learning_rate(settings, done) for done in range(6)] == [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]
    assert learning_rate(LearnerConfig(lr=8.0), 0) == 8.0


# One rank.


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_the_first_step_is_the_plain_policy_gradient(one, cfg, model, tmp_path, stage):
    plain = Plain(model)
    norm = plain.step(plain.policy_gradient(ROWS, ADVANTAGES))
    [ours] = one.run(trained_and_saved, cfg(f"learner.zero_stage={stage}"), [(plans(ROWS, ADVANTAGES), ROWS)], str(tmp_path))
    close(gradients(tmp_path), {name: parameter.grad.flatten() for name, parameter in plain.hf.named_parameters()}, atol=1e-6)
    [metrics] = ours.metrics
    assert metrics["policy/ratio_mean"] == pytest.approx(1, abs=1e-7)
    assert metrics["policy/clip_frac"] == 0
    assert metrics["policy/grad_norm"] == pytest.approx(norm, rel=1e-5)
    tokens = [len(row.tokens) for row in ROWS]
    assert metrics["policy/loss"] == pytest.approx(-np.dot(tokens, ADVANTAGES) / sum(tokens), rel=1e-5)
    close(ours.weights, plain.weights(), atol=5e-6)


@pytest.mark.e2e
def test_metrics_are_those_of_plain_torch(one, cfg, model):
    plain = Plain(model)
    [ours] = one.run(trained, cfg(), [(plans(ROWS, ADVANTAGES, budget=60), ROWS)])
    [metrics] = ours.metrics
    logprobs = [values.double().numpy() for values in plain.detached(ROWS)]
    spread = np.repeat(ADVANTAGES, [len(values) for values in logprobs])
    assert metrics["policy/entropy_cov"] == pytest.approx(np.cov(np.concatenate(logprobs), spread, bias=True)[0, 1], abs=1e-5)
    assert metrics["learner/rows"] == 12
    assert metrics["learner/tokens"] == sum(len(row.prompt_tokens) + len(row.tokens) for row in ROWS)
    assert metrics["learner/padding_frac"] == 0  # packed
    assert metrics["learner/micro_batches"] > 1
    assert metrics["policy/lr"] == 2e-4
    assert "policy/kl" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.e2e
def test_gradients_are_clipped_to_their_largest_norm(one, cfg, model):
    plain = Plain(model, clip=0.01)
    norm = plain.step(plain.policy_gradient(ROWS, ADVANTAGES))
    assert norm > 0.01
    for stage in (0, 1):
        batches = [(plans(ROWS, ADVANTAGES), ROWS)]
        [ours] = one.run(trained, cfg("learner.grad_clip=0.01", f"learner.zero_stage={stage}"), batches)
        assert ours.metrics[0]["policy/grad_norm"] == pytest.approx(norm, rel=1e-5)  # before clipping
        close(ours.weights, plain.weights(), atol=1e-5)


@pytest.mark.e2e
def test_several_optimizer_steps_keep_the_old_logprobs_of_before_the_first(one, cfg, model):
    plain = Plain(model, lr=1e-2)
    [share] = plans(ROWS, ADVANTAGES, steps=3, admit=True)
    old = plain.detached(ROWS)
    for step in share.steps:
        rows = [share.samples[i].slot for batch in step for row in batch for i in row]
        plain.step(plain.surrogate([ROWS[i] for i in rows], [ADVANTAGES[i] for i in rows], [old[i] for i in rows]))
    [ours] = one.run(trained, cfg("learner.lr=1e-2"), [([share], ROWS)])
    close(ours.weights, plain.weights(), atol=2e-4)  # a fiftieth of a step
    assert ours.metrics[0]["policy/clip_frac"] > 0
    assert ours.metrics[0]["learner/optimizer_steps"] == 3
    assert sorted(ours.old[0]) == list(range(12))
    for i, sample in enumerate(share.samples):
        np.testing.assert_allclose(ours.old[0][i], old[sample.slot], atol=1e-5)


@pytest.mark.e2e
def test_old_logprobs_stored_with_a_rollout_are_used(one, cfg, model):
    plain = Plain(model)
    # Half of what the policy says now: with A > 0 a ratio of 2 is clipped, so these rows give no gradient.
    clipped = [
        Rollout(
            0, i, 0, Kind.REGULAR, 1.0, r.prompt_tokens, r.tokens, r.logprobs, False, 0, old_logprobs=old.numpy() - np.float32(math.log(2))
        )
        for i, (r, old) in enumerate(zip(ROWS, plain.detached(ROWS), strict=True))
    ]
    rows, advantages = [*clipped[:6], *ROWS[6:]], [1.0] * 12
    old = [torch.from_numpy(r.old_logprobs) if r.old_logprobs is not None else v for r, v in zip(rows, plain.detached(rows), strict=True)]
    plain.step(plain.surrogate(rows, advantages, old))
    [ours] = one.run(trained, cfg(), [(plans(rows, advantages), rows)])
    tokens = np.array([len(row.tokens) for row in rows])
    assert ours.metrics[0]["policy/clip_frac"] == pytest.approx(tokens[:6].sum() / tokens.sum())
    assert ours.metrics[0]["policy/ratio_mean"] == pytest.approx((2 * tokens[:6].sum() + tokens[6:].sum()) / tokens.sum(), rel=1e-5)
    close(ours.weights, plain.weights(), atol=5e-6)


@pytest.mark.e2e
def test_only_a_single_step_admits_samples_that_are_marked(one, cfg, model):
    [share] = plans(ROWS, ADVANTAGES)
    samples = [Sample(s.bundle, s.slot, s.advantage, admit=s.slot in (2, 5)) for s in share.samples]
    [ours] = one.run(trained, cfg(), [([Plan(samples, share.steps, share.tokens, share.responses)], ROWS)])
    old = Plain(model).detached(ROWS)
    assert sorted(samples[i].slot for i in ours.old[0]) == [2, 5]
    for i, values in ours.old[0].items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, old[samples[i].slot], atol=1e-5)


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [3])
def test_the_kl_to_the_start_model_is_zero_at_first_and_then_pulls_back(one, cfg, model, stage):
    batches = [(plans(ROWS, ADVANTAGES), ROWS)] * 3
    [free] = one.run(trained, cfg(f"learner.zero_stage={stage}"), batches)
    [held] = one.run(trained, cfg(f"learner.zero_stage={stage}", "loss.kl_coef=100"), batches)
    kl = [metrics["policy/kl"] for metrics in held.metrics]
    assert kl[0] == pytest.approx(0, abs=1e-9)
    assert 0 < kl[1]
    moved = [sum(float((after.weights[n] - w).norm()) ** 2 for n, w in Plain(model).weights().items()) for after in (free, held)]
    assert moved[1] < 0.5 * moved[0]


@pytest.mark.e2e
def test_the_gap_to_the_engine_is_taken_at_the_sampling_temperature(one, cfg, model):
    plain = Plain(model)
    with torch.no_grad():
        engine = [plain.logprobs(row, 1.2).numpy() for row in ROWS]
    engine[3] = engine[3] + np.float32([0.25] + [0] * (len(engine[3]) - 1))
    rows = [replace(row, temperature=1.2, logprobs=logprobs, version=7) for row, logprobs in zip(ROWS, engine, strict=True)]
    stale = rollouts(3, seed=4, version=6)  # sampled with other weights: not to be compared
    everything = [*rows, *stale]
    share = plans(everything, [*ADVANTAGES, 1, 1, 1])
    [ours] = one.run(published_then_trained, cfg(), [(share, everything)] * 2)
    first, second = ours.metrics
    assert first["policy/rollout_logprob_gap_max"] == pytest.approx(0.25, abs=1e-4)
    assert first["policy/rollout_logprob_gap_mean"] == pytest.approx(0.25 / sum(len(r.tokens) for r in rows), abs=1e-4)
    # The policy has moved, the engines hold version 7 still: nothing to compare.
    assert "policy/rollout_logprob_gap_max" not in second
    two_steps = plans(everything, [*ADVANTAGES, 1, 1, 1], steps=2)
    [split] = one.run(published_then_trained, cfg("learner.lr=1e-2"), [(two_steps, everything)])
    for name in ("policy/rollout_logprob_gap_max", "policy/rollout_logprob_gap_mean"):  # taken before the first step moves the weights
        assert split.metrics[0][name] == pytest.approx(first[name], abs=1e-5)
    [cut] = one.run(published_then_trained, cfg("rollout.top_p=0.9"), [(share, everything)])
    assert "policy/rollout_logprob_gap_mean" not in cut.metrics[0]


@pytest.mark.e2e
def test_a_plan_without_rows_changes_nothing(one, cfg, model):
    [ours] = one.run(trained, cfg(), [([Plan([], [], [], [])], [])])
    assert (ours.metrics, ours.old) == ([{}], [{}])
    equal(ours.weights, Plain(model).weights())


@pytest.mark.e2e
def test_a_gradient_that_is_no_number_ends_the_run(one, cfg):
    for stage in (0, 1):
        [said] = one.run(failure, cfg(f"learner.zero_stage={stage}"), plans(ROWS, [math.inf] * 12), ROWS)
        assert "gradient norm of optimizer step 1 is" in said


@pytest.mark.e2e
def test_scores_and_entropy_are_those_of_plain_transformers(one, cfg, model):
    plain = Plain(model)
    [(logprobs, entropies)] = one.run(scored, cfg(), [Continuation(row.prompt, row.prompt_tokens, row.tokens) for row in ROWS])
    for ours, theirs in zip(logprobs, plain.detached(ROWS), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    [mean] = one.run(entropy, cfg(), plans(ROWS, [0.0] * 12, budget=50), ROWS)
    assert mean == pytest.approx(np.concatenate(entropies).mean(), rel=1e-5)


# Two ranks.


@pytest.mark.e2e
def test_two_ranks_with_two_micro_batches_give_the_gradient_of_one_batch(one, two, cfg, tmp_path):
    whole, split = plans(ROWS, ADVANTAGES), plans(ROWS, ADVANTAGES, ranks=2, budget=50)
    assert len(split[0].steps[0]) >= 2
    sizes = {sum(len(ROWS[s.samples[i].slot].tokens) for row in batch for i in row) for s in split for batch in s.steps[0]}
    assert len(sizes) > 1
    [alone] = one.run(trained_and_saved, cfg(), [(whole, ROWS)], str(tmp_path / "one"))
    for stage in (0, 1, 2, 3):
        folder = tmp_path / f"two-{stage}"
        both = two.run(trained_and_saved, cfg(f"learner.zero_stage={stage}"), [(split, ROWS)], str(folder))
        close(gradients(folder), gradients(tmp_path / "one"), atol=1e-6)
        for ours in both:
            close(ours.weights, alone.weights, atol=5e-6)
            for name in ("policy/loss", "policy/entropy", "policy/entropy_cov", "policy/grad_norm"):
                assert ours.metrics[0][name] == pytest.approx(alone.metrics[0][name], rel=1e-4)


@pytest.mark.e2e
def test_zero_stages_give_the_same_weights_after_two_steps(two, cfg, model):
    batches = [(plans(rows, ADVANTAGES, ranks=2, budget=60), rows) for rows in (rollouts(12, seed=1), rollouts(12, seed=2))]
    results = [two.run(trained, cfg(f"learner.zero_stage={stage}"), batches) for stage in (0, 1, 2, 3)]
    plain = Plain(model)
    for _, rows in batches:
        plain.step(plain.policy_gradient(rows, ADVANTAGES))
    for ranks in results:
        for ours in ranks:
            close(ours.weights, plain.weights(), atol=1e-5)
            assert ours.metrics[1]["policy/grad_norm"] == pytest.approx(results[0][0].metrics[1]["policy/grad_norm"], rel=1e-5)
            assert ours.metrics[1]["learner/rows"] == 12  # over both ranks


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [1, 3])
def test_a_rank_without_rows_takes_part_and_adds_nothing(one, two, cfg, stage):
    rows, advantages = ROWS[:1], [1.5]
    [alone] = one.run(trained, cfg(), [(plans(rows, advantages), rows)])
    first, second = two.run(trained, cfg(f"learner.zero_stage={stage}"), [(plans(rows, advantages, ranks=2), rows)])
    close(first.weights, alone.weights, atol=5e-6)
    equal(first.weights, second.weights)
    assert first.metrics[0]["learner/rows"] == 1
    assert first.metrics[0]["policy/entropy"] == pytest.approx(alone.metrics[0]["policy/entropy"], rel=1e-5)


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [3])
def test_logits_in_pieces_and_checkpointed_layers_change_nothing(two, cfg, stage):
    batches = [(plans(ROWS, ADVANTAGES, ranks=2, budget=60), ROWS)] * 2
    whole, _ = two.run(trained, cfg(), batches)
    pieces, _ = two.run(trained_in_pieces, cfg(f"learner.zero_stage={stage}", "learner.gradient_checkpointing=true"), batches)
    close(pieces.weights, whole.weights, atol=1e-5)


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
        equal(resumed[rank].weights, straight[rank].weights)
        torch.testing.assert_close(resumed[rank].random, straight[rank].random, atol=0, rtol=0)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}  # nothing that could run code when read


@pytest.mark.e2e
def test_a_checkpoint_resumes_on_other_ranks_and_stages(one, two, cfg, tmp_path):
    before, after = rollouts(12, seed=1), rollouts(12, seed=2)
    batches = [[(plans(rows, ADVANTAGES, ranks=ranks), rows)] for rows in (before, after) for ranks in (1, 2)]
    straight = two.run(saved_and_continued, cfg("learner.zero_stage=3"), batches[1], batches[3], str(tmp_path))[0]
    saved = saved_tensors(tmp_path, "weight")
    for stage in (0, 2):
        [resumed] = one.run(loaded_and_continued, cfg(f"learner.zero_stage={stage}"), batches[2], str(tmp_path))
        equal({name: t.flatten() for name, t in resumed.start.items()}, saved)
        close(resumed.weights, straight.weights, atol=1e-5)
    resumed = two.run(loaded_and_continued, cfg("learner.zero_stage=1"), batches[3], str(tmp_path))[1]
    close(resumed.weights, straight.weights, atol=1e-5)


@pytest.mark.e2e
def test_a_checkpoint_of_another_model_or_none_at_all_is_refused(one, cfg, tmp_path):
    assert "BadInput" in one.run(loading_fails, cfg(), str(tmp_path / "missing"))[0]
    one.run(trained_and_saved, cfg(), [(plans(ROWS, ADVANTAGES), ROWS)], str(tmp_path))
    contents = json.loads((tmp_path / "learner.json").read_text())
    contents["parameters"]["model.norm.weight"]["shape"] = [64]
    (tmp_path / "learner.json").write_text(json.dumps(contents))
    [said] = one.run(loading_fails, cfg(), str(tmp_path))
    assert said.startswith("BadInput") and "of another model" in said and "model.norm.weight" in said


@pytest.mark.e2e
@pytest.mark.parametrize("stage", [3])
def test_an_exported_policy_loads_in_plain_transformers(two, cfg, tmp_path, stage):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    held, _ = two.run(exported, cfg(f"learner.zero_stage={stage}"), plans(ROWS, ADVANTAGES, ranks=2), ROWS, str(tmp_path))
    hf = AutoModelForCausalLM.from_pretrained(tmp_path)
    equal({name: parameter.detach() for name, parameter in hf.named_parameters()}, held)
    assert hf.config.attention_dropout == 0.1  # as the user's model had it
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == TEMPLATE
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == [2, 3]
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.e2e
def test_every_stage_publishes_the_same_whole_weights(two, cfg):
    said = [two.run(publication, cfg(f"learner.zero_stage={stage}"), plans(ROWS, ADVANTAGES, ranks=2), ROWS) for stage in (0, 3)]
    for first, second in said:
        assert second is None  # rank 0 speaks
        assert "lm_head.weight" not in first.names and first.names[0] == "model.embed_tokens.weight"
        assert first.shapes[0] == [48, 32]
    assert (said[0][0].names, said[0][0].shapes, said[0][0].nbytes) == (said[1][0].names, said[1][0].shapes, said[1][0].nbytes)
