"""The learner's ranks, and the tiny text model that they train."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.learner_ranks import Ranks, start_ranks
from tests.support.text_learner import save_text_model
from uec.config.file import load_config
from uec.config.schema import Config


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def one() -> Iterator[Ranks]:
    yield from start_ranks(1)


@pytest.fixture(scope="module")
def two() -> Iterator[Ranks]:
    yield from start_ranks(2)


@pytest.fixture
def cfg(model: Path, project: Path) -> Callable[..., Config]:
    def make(*overrides: str) -> Config:
        settings = [f"model.path={model}", "learner.lr=2e-4", "learner.zero_stage=1", "learner.grad_clip=1000", *overrides]
        return load_config(project / "configs/llm.yaml", settings)

    return make
