"""The methods that vLLM's workers get, without a worker."""

import json

import numpy as np
import pytest
import torch

from actors.engines.vllm.worker_extension import WorkerExtension


@pytest.fixture
def worker() -> WorkerExtension:
    worker = WorkerExtension()
    worker.device, worker.rank = torch.device("cpu"), 0
    return worker


@pytest.fixture(autouse=True)
def restored_generators():
    state, drawn = torch.get_rng_state(), np.random.get_state()
    yield
    torch.set_rng_state(state)
    np.random.set_state(drawn)


def draws() -> tuple[list[int], list[int]]:
    """Seeds as runner V2 draws them (vllm/v1/worker/gpu/sample/states.py), and torch's numbers."""
    limits = np.iinfo(np.int64)
    return [int(np.random.randint(limits.min, limits.max)) for _ in range(5)], torch.randint(1 << 40, (5,)).tolist()


def test_a_restored_state_draws_the_same_request_seeds_and_the_same_numbers(worker):
    np.random.seed(1)
    np.random.standard_normal()  # leaves a second normal number in the state
    state = worker.random_state()
    assert isinstance(json.loads(state), dict)
    first, normal = draws(), np.random.standard_normal()
    assert draws() != first
    worker.load_random_state([state])
    assert (draws(), np.random.standard_normal()) == (first, normal)


def test_a_worker_takes_its_own_of_several_states(worker):
    states, expected = [], []
    for seed in (3, 4):
        np.random.seed(seed)
        states.append(worker.random_state())
        expected.append(draws()[0])
    worker.rank = 1
    worker.load_random_state(states)
    assert draws()[0] == expected[1] != expected[0]


def test_a_state_of_an_older_checkpoint_restores_torchs_generator_and_leaves_numpys(worker):
    old = json.loads(worker.random_state())["torch"]  # the format before numpy's state came: the bare text
    first = draws()
    np.random.seed(7)
    kept = np.random.get_state()[1].tolist()
    worker.load_random_state([old])
    assert np.random.get_state()[1].tolist() == kept and draws()[1] == first[1]
