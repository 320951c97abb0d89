"""Surroundings of all tests: one thread each, no hub, cheap tests first."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before anything imports Ray, torch or transformers. Ray's default niceness starves its workers beside anything else.
os.environ["RAY_worker_niceness"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["WANDB_MODE"] = "offline"

from hypothesis import settings

from uec.config.file import load_config
from uec.config.schema import Config
from uec.system.process_env import compiler_caches, discard_stderr_at_exit

PROJECT = Path(__file__).resolve().parent.parent
STATUS = pytest.StashKey[int]()

os.environ.update(compiler_caches())  # what set-up compiled

# A shell's background job ignores these, and with it each process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

discard_stderr_at_exit()
settings.register_profile("uec", deadline=None, derandomize=True)  # a slow machine is no failure, and CI's inputs are everyone's
settings.load_profile("uec")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that cost seconds come after those that do not."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without Python's teardown, in which native threads of torch, Ray and vLLM crash now and then after long sessions."""
    if STATUS in config.stash and not hasattr(config, "workerinput"):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[STATUS])


@pytest.fixture
def project() -> Path:
    return PROJECT


@pytest.fixture
def make_config() -> Callable[..., Config]:
    """The default text run's config with overrides, e.g. `make_config("rollout.n=4")`."""

    def make(*overrides: str) -> Config:
        return load_config(PROJECT / "configs/llm.yaml", list(overrides))

    return make


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of the test file's own."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()
