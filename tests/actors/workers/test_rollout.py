"""Engines of both kinds as Ray actors, on a tiny random Qwen2 with tied embeddings and a vocabulary padded beyond its tokenizer."""

import asyncio
import copy
import dataclasses
import itertools
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch

from actors.weights.shm import ShmPublisher
from actors.workers.rollout import RolloutActor, environment
from uec.config.file import load_config
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.types import Continuation, Kind, Prompt, Request, Trajectory, WeightUpdate

pytestmark = pytest.mark.e2e

WORDS = ["<pad>", "<unk>", "<eos>", "<end>", *(a + b for a in "bdfgklmn" for b in ("a", "e", "i", "o", "u", "y"))]
EOS, END, PADDED = 2, 3, 64
MAX_TOKENS = 48
GAP = 1e-4  # float32: engine and transformers add up in another order


class Faulty(RolloutActor):
    """RolloutActor whose engine can be broken on purpose."""

    async def leave_head_stale(self, stale: bool) -> None:
        """Fault: a weight update does not renew the packed copy of the tied lm_head, as vLLM's own recipe does not."""
        from actors.engines.vllm.shm_receiver import ShmWeightTransferEngine

        ShmWeightTransferEngine.kept = getattr(ShmWeightTransferEngine, "kept", ShmWeightTransferEngine.repack)
        ShmWeightTransferEngine.repack = (lambda self: None) if stale else ShmWeightTransferEngine.kept

    async def keep_prefix_cache(self, keep: bool) -> None:
        """Fault: a weight update does not reset the prefix cache."""
        await self._engine._core._call(lambda engine: engine.__dict__.pop("reset_prefix_cache", None))
        if keep:
            await self._engine._core._call(lambda engine: setattr(engine, "reset_prefix_cache", lambda **_: True))

    async def fail_in_the_middle(self) -> None:
        """Fault: the worker fails after the update has begun."""
        from actors.engines.vllm.shm_receiver import ShmWeightTransferEngine

        def fail(self: object, update: object) -> None:
            raise ValueError("injected")

        ShmWeightTransferEngine.receive_weights = fail

    async def order(self, early: list[Request], late: list[Request]) -> list[str]:
        """Return the kinds of responses in the order in which they end; `late` is requested when the first response to `early` ends."""
        ends: list[str] = []

        async def follow(requests: list[Request], ended: asyncio.Event) -> None:
            async for batch in self.generate(requests):
                ends.extend(r.kind.value for r in batch)
                ended.set()

        one_ended = asyncio.Event()
        task = asyncio.create_task(follow(early, one_ended))
        await one_ended.wait()
        await follow(late, asyncio.Event())
        await task
        return ends

    async def update_amid(self, requests: list[Request], update: WeightUpdate, pause: str) -> list[Trajectory]:
        """Return the responses to requests that run while an update comes, after the first of them has ended."""
        self.cfg.weights.pause = pause
        rollouts: list[Trajectory] = []
        updating = None
        async for batch in self.generate(requests):
            rollouts += batch
            updating = updating or asyncio.create_task(self.update_weights(update))
        await updating
        self.cfg.weights.pause = "wait"
        return rollouts

    async def fail_in_steps(self) -> None:
        """Fault: the engine's model fails."""

        def fail() -> None:
            raise ArithmeticError("injected")

        self._broken = None
        await self._engine._core._call(lambda engine: setattr(engine, "step", fail))

    async def pid(self) -> int:
        return os.getpid()


class Learner:
    """Takes the place of the learner: a transformers model that publishes its weights."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.publisher = ShmPublisher(rank=0)
        self.version = 0

    def learn(self) -> WeightUpdate:
        """Change every weight, and publish."""
        with torch.no_grad():
            for parameter in self.hf.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
        self.version += 1
        return self.publish()

    def publish(self) -> WeightUpdate:
        return self.publisher.publish(self.version, self.hf.named_parameters())

    def logprobs(self, prompt: np.ndarray, tokens: np.ndarray, temperature: float = 1.0, hf: torch.nn.Module | None = None) -> np.ndarray:
        """Return those of the response's tokens, over the tokens that exist; with `hf`, by other weights."""
        with torch.no_grad():
            logits = (hf or self.hf)(torch.tensor([[*prompt.tolist(), *tokens.tolist()]])).logits[0, len(prompt) - 1 : -1, : len(WORDS)]
        return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(tokens)[:, None].long())[:, 0].numpy()

    def gap(self, rollouts: list[Trajectory]) -> float:
        """Return the largest difference to the log-probabilities that an engine gave."""
        return max(float(np.abs(self.logprobs(r.prompt_tokens, r.tokens, r.temperature) - r.logprobs).max()) for r in rollouts)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=PADDED, hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, tie_word_embeddings=True, eos_token_id=EOS, pad_token_id=0, bos_token_id=None, initializer_range=0.08,
    )  # fmt: skip
    hf = Qwen2ForCausalLM(config)
    hf.generation_config = GenerationConfig(eos_token_id=[EOS, END], do_sample=True, top_k=1)  # top_k: a sampling default to be ignored
    hf.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    rng = np.random.default_rng(0)
    lengths = [5] * 8 + [70] * 4  # the long ones fill blocks of the prefix cache
    return [Prompt(i, "", rng.integers(4, len(WORDS), length, dtype=np.int32), "", {}) for i, length in enumerate(lengths)]


def config(project: Path, model: Path, *overrides: str) -> Config:
    common = [f"model.path={model}", f"rollout.max_tokens={MAX_TOKENS}", "data.max_prompt_tokens=72", "rollout.kv_cache_mb=32"]
    return load_config(project / "configs/llm.yaml", [*common, *overrides])


@pytest.fixture(scope="module")
def actors(model: Path, prompts: list[Prompt]):
    """An engine of each kind, started side by side: in the actor with the prefix cache on, and AsyncLLM with a stop text."""
    project = Path(__file__).resolve().parents[3]
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    configs = [
        config(project, model, "rollout.backend=in_actor", "rollout.prefix_caching=true"),
        config(project, model, "rollout.backend=async", "rollout.stop=[ba]"),
    ]
    handles = []
    for rank, cfg in enumerate(configs):
        options = {"num_cpus": 0.5, "max_concurrency": 100, "runtime_env": {"env_vars": environment(cfg, rank)}}
        handles.append(ray.remote(Faulty).options(**options).remote(cfg, rank))
    ray.get([handle.start.remote(prompts) for handle in handles])
    yield handles
    ray.shutdown()


@pytest.fixture(scope="module")
def engine(actors):
    return actors[0]


@pytest.fixture(scope="module")
def learner(model: Path):
    learner = Learner(model)
    yield learner
    learner.publisher.close()


groups = itertools.count()


def request(prompt: int, n: int = 4, temperature: float = 1.0, kind: Kind = Kind.REGULAR) -> Request:
    return Request(next(groups), prompt, n, temperature, kind)


def response_batches(actor, requests: list[Request]) -> list[list[Trajectory]]:
    return [ray.get(batch) for batch in actor.generate.options(num_returns="streaming").remote(requests)]


def sample(actor, requests: list[Request]) -> list[Trajectory]:
    return sorted((r for batch in response_batches(actor, requests) for r in batch), key=lambda r: (r.group, r.index))


def test_every_response_comes_once_with_its_request_and_is_cut_at_max_tokens(engine, prompts):
    asked = [request(0, 8), request(1, 20, 1.2, Kind.EXPLORATION), request(2, 1, 0.7, Kind.EVAL)]
    rollouts = sample(engine, asked)
    assert [(r.group, r.index) for r in rollouts] == [(q.group, i) for q in asked for i in range(q.n)]
    by_group = {q.group: q for q in asked}
    for r in rollouts:
        q = by_group[r.group]
        assert (r.prompt, r.kind, r.temperature) == (q.prompt, q.kind, q.temperature)
        assert r.prompt_tokens.tolist() == prompts[q.prompt].tokens.tolist()
        assert r.tokens.dtype == np.int32 and r.logprobs.dtype == np.float32 and len(r.tokens) == len(r.logprobs)
        if r.truncated:
            assert len(r.tokens) == MAX_TOKENS and r.tokens[-1] not in (EOS, END)
        else:
            assert r.tokens[-1] in (EOS, END)
        assert not np.isin(r.tokens[:-1], (EOS, END)).any()
    assert {r.truncated for r in rollouts} == {True, False}


def test_all_end_tokens_of_the_generation_config_count_and_its_sampling_defaults_do_not(engine):
    rollouts = sample(engine, [request(i % 8, 32) for i in range(8)])
    assert {int(r.tokens[-1]) for r in rollouts if not r.truncated} == {EOS, END}
    assert len({tuple(r.tokens.tolist()) for r in rollouts}) > 0.8 * len(rollouts)  # top_k = 1 would make a group's responses equal


def test_no_token_beyond_the_tokenizer_is_sampled(engine, learner):
    tokens = np.concatenate([r.tokens for r in sample(engine, [request(i % 8, 32, 2.0) for i in range(8)])])
    with torch.no_grad():
        logits = learner.hf(torch.tensor([[4, 5, 6]])).logits[0, -1]
    beyond = float((logits / 2).softmax(-1)[len(WORDS) :].sum())
    assert beyond * len(tokens) > 100  # so many would be there
    assert tokens.max() < len(WORDS)


@pytest.mark.parametrize("kind", [0, 1], ids=["in_actor", "async"])
def test_engine_logprobs_equal_transformers_before_and_after_an_update(actors, learner, kind):
    actor = actors[kind]
    version = learner.version
    asked = [request(0, 4), request(1, 4, 1.2, Kind.EXPLORATION)]
    before = sample(actor, asked)
    if version == 0:
        assert {r.version for r in before} == {0} and learner.gap(before) < GAP
    ray.get(actor.update_weights.remote(learner.learn()))
    after = sample(actor, [request(0, 4), request(1, 4, 1.2, Kind.EXPLORATION)])
    assert {r.version for r in after} == {version + 1}
    assert learner.gap(after) < GAP
    assert learner.gap(before) > 100 * GAP  # the update was one


def test_responses_come_before_the_slowest_of_their_group_ends(engine):
    (asked,) = [request(0, 32)]
    found = response_batches(engine, [asked])
    assert len(found) > 1
    assert min(len(r.tokens) for r in found[0]) < min(len(r.tokens) for r in found[-1])
    assert sum(len(batch) for batch in found) == 32


@pytest.mark.parametrize("kind", [0, 1], ids=["in_actor", "async"])
def test_a_late_request_joins_those_that_run(actors, kind):
    """Continuous batching: its first response does not wait for the last of those that came earlier."""
    early, late = [request(i, 16) for i in range(8)], [request(i, 2, kind=Kind.EXPLORATION) for i in range(8)]
    ends = ray.get(actors[kind].order.remote(early, late))
    assert len(ends) == 8 * 16 + 8 * 2
    assert ends.index("exploration") < len(ends) - 1 - ends[::-1].index("regular")


@pytest.mark.parametrize("kind", [0, 1], ids=["in_actor", "async"])
def test_an_update_in_a_response_keeps_it_and_its_tokens_are_of_the_weights_at_their_time(actors, learner, kind):
    actor, old, version = actors[kind], copy.deepcopy(learner.hf), learner.version
    ray.get(actor.update_weights.remote(learner.publish()))
    rollouts = ray.get(actor.update_amid.remote([request(i % 8, 32) for i in range(16)], learner.learn(), "keep"))
    assert len(rollouts) == 16 * 32
    assert {r.version for r in rollouts} <= {version, version + 1}  # of the first token: some had not begun
    both = 0
    for r in rollouts:
        before = np.abs(learner.logprobs(r.prompt_tokens, r.tokens, hf=old) - r.logprobs) < GAP
        after = np.abs(learner.logprobs(r.prompt_tokens, r.tokens) - r.logprobs) < GAP
        switch = len(before) if before.all() else int(before.argmin())
        assert (switch > 0) == (r.version == version)
        if kind == 0:  # with prefix caching, which computes keys and values anew
            assert after[switch:].all()
        both += 0 < switch < len(before)
    assert both > 16
    assert {r.version for r in sample(actor, [request(0)])} == {version + 1}
    assert learner.gap(sample(actor, [request(0), request(8)])) < GAP  # nothing of the old weights is left


def test_an_update_that_waits_comes_after_all_that_runs(engine, learner):
    ray.get(engine.update_weights.remote(learner.publish()))
    version = learner.version
    rollouts = ray.get(engine.update_amid.remote([request(i % 8, 32) for i in range(8)], learner.learn(), "wait"))
    assert {r.version for r in rollouts} == {version}
    assert {r.version for r in sample(engine, [request(0)])} == {version + 1}


def test_logprobs_are_the_learners(engine, learner, prompts):
    ray.get(engine.update_weights.remote(learner.learn()))
    sequences = [Continuation(i, prompts[i].tokens, prompts[i + 1].tokens[:MAX_TOKENS]) for i in (0, 1, 8)]
    for got, one in zip(ray.get(engine.logprobs.remote(sequences)), sequences, strict=True):
        assert got.shape == one.tokens.shape
        np.testing.assert_allclose(got, learner.logprobs(one.prompt_tokens, one.tokens), atol=GAP)


def test_logprobs_show_a_stale_tied_lm_head(engine, learner, prompts):
    sequence = Continuation(0, prompts[0].tokens, prompts[1].tokens)
    ray.get(engine.leave_head_stale.remote(True))
    ray.get(engine.update_weights.remote(learner.learn()))
    (stale,) = ray.get(engine.logprobs.remote([sequence]))
    assert np.abs(stale - learner.logprobs(sequence.prompt_tokens, sequence.tokens)).max() > 100 * GAP
    ray.get(engine.leave_head_stale.remote(False))
    ray.get(engine.update_weights.remote(learner.learn()))
    (fresh,) = ray.get(engine.logprobs.remote([sequence]))
    assert np.abs(fresh - learner.logprobs(sequence.prompt_tokens, sequence.tokens)).max() < GAP


def test_an_update_resets_the_prefix_cache_and_logprobs_do_not_read_it(engine, learner, prompts):
    long = [request(8, 2), request(9, 2)]
    sample(engine, long)
    ray.get(engine.keep_prefix_cache.remote(True))
    ray.get(engine.update_weights.remote(learner.learn()))
    assert learner.gap(sample(engine, [request(8, 2), request(9, 2)])) > 100 * GAP  # old keys and values
    sequence = Continuation(8, prompts[8].tokens, prompts[0].tokens)
    assert np.abs(ray.get(engine.logprobs.remote([sequence]))[0] - learner.logprobs(sequence.prompt_tokens, sequence.tokens)).max() < GAP
    ray.get(engine.keep_prefix_cache.remote(False))
    ray.get(engine.update_weights.remote(learner.learn()))
    assert learner.gap(sample(engine, [request(8, 2), request(9, 2)])) < GAP


def without(update, name):
    keep = [i for i, n in enumerate(update.names) if n != name]
    return dataclasses.replace(
        update,
        names=[update.names[i] for i in keep],
        dtypes=[update.dtypes[i] for i in keep],
        shapes=[update.shapes[i] for i in keep],
    )


def renamed(update, name):
    return dataclasses.replace(update, names=["model.layers.9.bogus.weight" if n == name else n for n in update.names])


def reshaped(update, name):
    return dataclasses.replace(
        update, shapes=[s[::-1] if n == name else s for n, s in zip(update.names, update.shapes, strict=True)]
    )


def shortened(update):
    os.truncate(update.location, update.nbytes - 4)
    return update


def damaged(update):
    with open(update.location, "r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 1]))
    return update


K_PROJ = "model.layers.1.self_attn.k_proj.weight"


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda p: without(p, K_PROJ), f"{K_PROJ} is missing"),
        (lambda p: renamed(p, K_PROJ), "bogus.weight is no parameter"),
        (lambda p: reshaped(p, K_PROJ), f"{K_PROJ} has shape"),
        (shortened, "bytes, published were"),
        (damaged, "not those published"),
        (lambda p: dataclasses.replace(p, location="/dev/shm/uec-weights-elsewhere/0.bin"), "weights.backend=nccl"),
        (lambda p: dataclasses.replace(p, backend="ipc"), "come by ipc"),
        (lambda p: dataclasses.replace(p, version=0), "refuses the older"),
    ],
    ids=["missing", "renamed", "wrong-shape", "short-file", "wrong-digest", "other-machine", "other-backend", "older"],
)
def test_a_wrong_weight_update_is_refused_before_the_engine_is_touched(engine, learner, spoil, cause):
    ray.get(engine.update_weights.remote(learner.learn()))
    good = [parameter.detach().clone() for parameter in learner.hf.parameters()]
    bad = spoil(learner.learn())
    with pytest.raises(RunFailed, match=cause):
        ray.get(engine.update_weights.remote(bad))
    with torch.no_grad():
        for parameter, kept in zip(learner.hf.parameters(), good, strict=True):
            parameter.copy_(kept)
    rollouts = sample(engine, [request(0, 4)])
    assert {r.version for r in rollouts} == {learner.version - 1}
    assert learner.gap(rollouts) < GAP


def test_an_update_waits_for_running_requests_and_holds_up_later_ones(engine, learner):
    ray.get(engine.update_weights.remote(learner.learn()))
    old = engine.generate.options(num_returns="streaming").remote([request(i, 32) for i in range(8)])
    time.sleep(0.1)  # the actor takes calls in the order in which they come
    update = engine.update_weights.remote(learner.learn())
    time.sleep(0.1)
    new = engine.generate.options(num_returns="streaming").remote([request(0, 4)])
    assert {r.version for batch in old for r in ray.get(batch)} == {learner.version - 1}
    ray.get(update)
    rollouts = [r for batch in new for r in ray.get(batch)]
    assert {r.version for r in rollouts} == {learner.version} and learner.gap(rollouts) < GAP


def test_a_random_state_that_is_loaded_again_gives_the_same_responses(engine):
    state = ray.get(engine.state.remote())
    assert all(isinstance(worker, str) for worker in state)
    first = sample(engine, [request(0, 8)])
    second = sample(engine, [request(0, 8)])
    ray.get(engine.load.remote(state))
    again = sample(engine, [request(0, 8)])
    assert [r.tokens.tolist() for r in again] == [r.tokens.tolist() for r in first] != [r.tokens.tolist() for r in second]


def test_a_stop_text_ends_a_response(actors):
    rollouts = sample(actors[1], [request(i, 16) for i in range(8)])
    ba = WORDS.index("ba")
    stopped = [r for r in rollouts if r.tokens[-1] == ba]
    assert stopped and not any(r.truncated for r in stopped)
    assert not any((r.tokens[:-1] == ba).any() for r in rollouts)


def test_responses_of_asyncllm_come_before_the_slowest_of_their_group_ends(actors):
    found = response_batches(actors[1], [request(0, 32)])
    assert len(found) > 1 and sum(len(batch) for batch in found) == 32


def test_a_cancelled_request_leaves_the_engine_free(actors):
    async def cancelled(actor) -> None:
        generator = actor.generate.options(num_returns="streaming").remote([request(i, 64) for i in range(8)])
        await asyncio.sleep(0.02)
        ray.cancel(generator)

    for actor in actors:
        asyncio.run(cancelled(actor))
        begin = time.perf_counter()
        assert len(sample(actor, [request(0, 4)])) == 4
        assert time.perf_counter() - begin < 20


def test_a_failure_in_the_middle_of_an_update_makes_the_engine_say_that_it_is_lost(engine, learner):
    ray.get(engine.fail_in_the_middle.remote())
    old = engine.generate.options(num_returns="streaming").remote([request(i, 32) for i in range(8)])
    time.sleep(0.1)  # the actor takes calls in the order in which they come
    update = engine.update_weights.remote(learner.learn())
    time.sleep(0.1)
    waiting = engine.generate.options(num_returns="streaming").remote([request(0)])
    assert sum(len(ray.get(batch)) for batch in old) == 8 * 32
    calls = [
        lambda: ray.get(update),
        lambda: ray.get(next(waiting)),
        lambda: ray.get(engine.update_weights.remote(learner.learn())),
        lambda: ray.get(engine.logprobs.remote([Continuation(0, np.arange(4), np.arange(4))])),
        lambda: sample(engine, [request(0)]),
    ]
    for call in calls:
        with pytest.raises(RunFailed, match="rollout-0 is unusable and has to be replaced.*injected"):
            call()


def test_an_engine_that_fails_in_a_step_is_named_with_its_cause(engine):
    ray.get(engine.fail_in_steps.remote())
    for call in (lambda: sample(engine, [request(0)]), lambda: ray.get(engine.state.remote())):
        with pytest.raises(RunFailed, match="rollout-0: vLLM failed in a step: ArithmeticError: injected"):
            call()


def engine_process(actor) -> psutil.Process:
    children = psutil.Process(ray.get(actor.pid.remote())).children(recursive=True)
    (core,) = (child for child in children if "EngineCore" in " ".join(child.cmdline()))
    return core


def test_a_dead_engine_process_is_named_with_its_cause_and_a_dead_actor_leaves_none(actors, prompts):
    actor = actors[1]
    engine_process(actor).send_signal(signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(RunFailed, match="rollout-1: vLLM's engine process is dead: .*SIGKILL"):
            sample(actor, [request(0)])
    ray.get(actor.start.remote(prompts))
    core = engine_process(actor)
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
    core.wait(timeout=20)
