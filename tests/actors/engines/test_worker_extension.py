"""The methods that vLLM's workers get, without a worker: random states and the tokens that are ruled out."""

import json
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from actors.engines.vllm.worker_extension import WorkerExtension, _rule_out


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


class Recorded(TorchDispatchMode):
    """Records the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


def test_ruling_out_tokens_is_one_operator_that_copies_nothing_to_the_device():
    logits_NV = torch.zeros(3, 6)
    never = torch.tensor([1, 4])
    with Recorded() as recorded:
        _rule_out(never, None, None, logits_NV)
    assert recorded.names == ["aten::index_fill_"]
    assert (logits_NV[:, never] < -1e4).all() and (logits_NV[:, [0, 2, 3, 5]] == 0).all()
    assert _rule_out(never, None, None, None) is None


def test_the_index_of_ruled_out_tokens_is_on_the_workers_device(worker, monkeypatch):
    class LogitsProcessor(torch.nn.Module):
        org_vocab_size = 9

    name = "vllm.model_executor.layers.logits_processor"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(LogitsProcessor=LogitsProcessor))
    head = LogitsProcessor()
    worker.device = torch.device("meta")  # stands in for a GPU
    worker.model_runner = SimpleNamespace(get_model=lambda: torch.nn.ModuleList([head]))
    worker.limit_vocabulary(6, [2, 5])
    (hook,) = head._forward_hooks.values()
    assert isinstance(hook, partial) and hook.args[0].device.type == "meta" and head.org_vocab_size == 6


class Held(WorkerExtension):
    """A worker with these parameters, and vLLM's digests of them."""

    def __init__(self, **parameters: torch.Tensor) -> None:
        model = torch.nn.ParameterDict(parameters)
        self.model_runner = SimpleNamespace(get_model=lambda: model)

    def compute_weight_checksums(self) -> dict[str, str]:
        return {f"tp0:{name}": str(tensor.tolist()) for name, tensor in self.model_runner.get_model().items()}


def test_a_workers_checksum_covers_all_parameters_and_is_none_where_vllm_dropped_one():
    one, same, other = (Held(a=torch.ones(2), b=torch.tensor([value])).weight_checksum() for value in (1.0, 1.0, 2.0))
    assert one == same != other
    assert Held(a=torch.ones(2), b=torch.empty(0)).weight_checksum() == ""
