"""The engine contract with a toy engine, which the name of its file selects: no vLLM, no Ray."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.engines import ENGINES, check_engine, load_engine
from actors.weights.shm import ShmPublisher
from actors.workers.rollout import RolloutActor, environment, response_batches
from tests.support import toy_engine
from uec.config.file import load_config
from uec.errors import BadInput, RunFailed
from uec.types import Completion, Continuation, Kind, Prompt, Request, Trajectory

PROJECT = Path(__file__).resolve().parents[3]
TOY = f"{toy_engine.__file__}:ToyEngine"
TOKENS = 16


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [Prompt(i, "", np.arange(3, 5 + i, dtype=np.int32), "", {}) for i in range(2)]


@pytest.fixture
def actor(prompts: list[Prompt]) -> RolloutActor:
    overrides = [f"model.path={PROJECT / 'assets/countdown'}", f"rollout.backend={TOY}", f"rollout.max_tokens={TOKENS}"]
    actor = RolloutActor(load_config(PROJECT / "configs/llm.yaml", overrides), 0)
    asyncio.run(actor.start(prompts))
    return actor


async def sample(actor: RolloutActor, requests: list[Request]) -> list[Trajectory]:
    return [trajectory async for batch in actor.generate(requests) for trajectory in batch]


def request(prompt: int, n: int, temperature: float = 1.0, kind: Kind = Kind.REGULAR) -> Request:
    return Request(7 + prompt, prompt, n, temperature, kind)


def test_an_engine_of_a_file_samples_each_request_n_times(actor, prompts):
    asked = [request(0, 50), request(1, 3, 1.5, Kind.EXPLORATION)]
    found = asyncio.run(sample(actor, asked))
    assert sorted((t.group, t.index) for t in found) == [(q.group, i) for q in asked for i in range(q.n)]
    for one in found:
        q = asked[one.prompt]
        assert (one.kind, one.temperature, one.versions, one.version) == (q.kind, q.temperature, (0,), 0)
        assert one.prompt_tokens is prompts[one.prompt].tokens
        assert one.truncated == (len(one.tokens) == TOKENS and not np.isin(one.tokens[-1], actor._engine.sampling.stop_tokens))
        np.testing.assert_allclose(one.logprobs, -np.log(actor._engine.sampling.vocabulary), rtol=1e-6)  # equal logits at first
    assert {one.truncated for one in found} == {True, False}


def test_an_update_changes_log_probabilities_and_the_version_of_later_responses(actor, tmp_path):
    vocabulary = actor._engine.sampling.vocabulary
    logits_V = torch.zeros(vocabulary)
    logits_V[5] = np.log(vocabulary - 1)  # half of the probability
    publisher = ShmPublisher(0, tmp_path)
    asyncio.run(actor.update_weights(publisher.publish(3, [("logits", logits_V)])))
    (logprobs_T,) = asyncio.run(actor.logprobs([Continuation(0, np.arange(3), np.array([5, 6], np.int32))]))
    np.testing.assert_allclose(np.exp(logprobs_T), [0.5, 0.5 / (vocabulary - 1)], rtol=1e-5)
    found = asyncio.run(sample(actor, [request(0, 100)]))
    tokens = np.concatenate([one.tokens for one in found])
    assert {one.version for one in found} == {3} and 0.4 < (tokens == 5).mean() < 0.6
    with pytest.raises(RunFailed, match="rollout-0 holds weights version 3 and refuses the older 2"):
        asyncio.run(actor.update_weights(publisher.publish(2, [("logits", logits_V)])))
    publisher.close()


def test_a_refused_update_leaves_the_engine_and_a_failed_one_loses_it(actor, tmp_path):
    publisher = ShmPublisher(0, tmp_path)
    good = publisher.publish(1, [("logits", torch.zeros(4))])
    Path(good.location).write_bytes(b"")
    with pytest.raises(RunFailed, match="has 0 bytes"):
        asyncio.run(actor.update_weights(good))
    assert len(asyncio.run(sample(actor, [request(0, 2)]))) == 2
    two = publisher.publish(2, [("logits", torch.zeros(4)), ("more", torch.zeros(4))])
    for _ in range(2):
        with pytest.raises(RunFailed, match="rollout-0 is unusable and has to be replaced: .*version 2 failed"):
            asyncio.run(actor.update_weights(two))
    publisher.close()


def test_a_restored_state_gives_the_same_responses(actor):
    state = asyncio.run(actor.state())
    first, second = (asyncio.run(sample(actor, [request(0, 8)])) for _ in range(2))
    asyncio.run(actor.load(state))
    again = asyncio.run(sample(actor, [request(0, 8)]))
    assert [t.tokens.tolist() for t in again] == [t.tokens.tolist() for t in first] != [t.tokens.tolist() for t in second]


def test_a_file_of_an_engine_decides_on_the_environment_of_its_process(actor):
    assert not any(name.startswith("VLLM") for name in environment(actor.cfg, 0))
    actor.cfg.rollout.backend = "auto"
    assert environment(actor.cfg, 0)["VLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize("name", ENGINES)
def test_every_built_in_engine_has_the_methods_of_the_contract(name):
    built_in = load_engine(name)
    assert all(callable(getattr(built_in, method)) for method in ("generate", "logprobs", "load_weights", "sleep", "wake"))


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("in_actr", "rollout.backend: 'in_actr' is none of auto, in_actor, async, .*did you mean in_actor"),
        ("nowhere/engine.py:Mine", "rollout.backend: .*there is no file"),
        (f"{toy_engine.__file__}:Other", "rollout.backend: .*has no class Other"),
        ("uec.types:Kind", "rollout.backend: .*Kind in .* lacks environment, start, generate"),
    ],
)
def test_a_name_that_is_no_engine_is_bad_input_that_names_the_field(name, cause):
    with pytest.raises(BadInput, match=cause):
        check_engine(name)


def completion(index: int) -> Completion:
    return Completion(0, index, np.zeros(1, np.int32), np.zeros(1, np.float32), False, 0)


def batches_of(delays: list[float], interval_s: float) -> list[list[int]]:
    """Return the indices in each response batch when completions come after these delays, in seconds."""

    async def completions():
        for index, delay in enumerate(delays):
            await asyncio.sleep(delay)
            yield [completion(index)]

    async def collect():
        return [[one.index for one in batch] async for batch in response_batches(completions(), interval_s)]

    return asyncio.run(collect())


def test_completions_within_the_interval_join_and_the_first_and_last_wait_for_nothing():
    assert batches_of([0.0, 0.01, 0.01, 0.5], 0.2) == [[0], [1, 2], [3]]
    assert batches_of([0.0, 0.01], 30.0) == [[0], [1]]


def test_an_error_of_the_engine_is_raised_and_a_closed_stream_aborts_it():
    closed = []

    async def completions(fails: bool):
        try:
            yield [completion(0)]
            if fails:
                raise RunFailed("injected")
            await asyncio.sleep(60)
        finally:
            closed.append(fails)

    async def run(fails: bool):
        batches = response_batches(completions(fails), 0.0)
        assert [one.index for one in await anext(batches)] == [0]
        if fails:
            await anext(batches)
        await batches.aclose()

    asyncio.run(run(False))
    with pytest.raises(RunFailed, match="injected"):
        asyncio.run(run(True))
    assert closed == [False, True]
