"""What every program checks before an actor starts."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from actors.programs.preflight import check_resume
from uec.checkpoint_files import FORMAT, list_files
from uec.config.schema import Config
from uec.data.dataset import Dataset, digest
from uec.data.prompt_order import PromptOrder
from uec.errors import BadInput
from uec.run_folder import RunFolder
from uec.types import Prompt


def data(answer: str) -> Dataset:
    return Dataset([Prompt(0, "x", np.array([1], np.int32), answer, {})], [], 0, 0)


def test_a_checkpoint_of_other_rows_is_refused_before_the_run_folder_is_touched(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    order = PromptOrder(1, 0, True, digest(data("a").train)).state()
    checkpoint = tmp_path / "run/checkpoints/step_000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "driver.json").write_text(json.dumps({"format": FORMAT, "driver": {"order": order}}))
    list_files(checkpoint)
    cfg, folder = make_config("run.resume=auto"), RunFolder(tmp_path / "run", None)
    check_resume(cfg, folder, data("a"))
    with pytest.raises(BadInput, match="made with other training prompts or answers than these 1; resume with the same data"):
        check_resume(cfg, folder, data("b"))
    with pytest.raises(BadInput, match="made with other training prompts"):
        check_resume(make_config(f"run.resume={checkpoint}"), RunFolder(tmp_path / "other", checkpoint), data("b"))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoints"]

    check_resume(make_config("run.resume=auto", "run.overwrite=true"), folder, data("b"))  # the checkpoint is about to be deleted
    check_resume(make_config("run.resume=never"), folder, data("b"))
    check_resume(cfg, RunFolder(tmp_path / "new", None), data("b"))
