"""Slices of tensors whose parts are in several files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from uec.models.state_files import StateFiles

WHOLE = torch.arange(10.0)


def saved(folder: Path, *files: dict[str, tuple[int, int]]) -> Path:
    """Write a file a rank, which holds these parts (begin, end) of tensors that are all 0 .. 9."""
    for rank, parts in enumerate(files):
        begins = {key.partition("/")[2]: begin for key, (begin, _) in parts.items()}
        tensors = {key: WHOLE[begin:end].clone() for key, (begin, end) in parts.items()}
        save_file(tensors, folder / f"state-{rank:05d}.safetensors", metadata={"begins": json.dumps(begins)})
    return folder


def test_any_slice_is_read_from_the_files_that_hold_it(tmp_path: Path) -> None:
    saved(tmp_path, {"weight/a/b": (4, 7)}, {"weight/a/b": (0, 4), "weight/c": (0, 10)}, {"weight/a/b": (7, 10)})
    with StateFiles(tmp_path, 3) as files:
        for begin, end in ((0, 10), (3, 8), (4, 7), (5, 6), (9, 10), (2, 2), (10, 10)):
            assert torch.equal(files.read("weight/a/b", begin, end), WHOLE[begin:end])
        assert torch.equal(files.read("weight/c", 1, 9), WHOLE[1:9])


def test_a_gap_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, {"weight/a": (0, 4)}, {"weight/a": (6, 10)})
    with StateFiles(tmp_path, 2) as files:
        assert torch.equal(files.read("weight/a", 6, 10), WHOLE[6:])
        for begin, end in ((0, 10), (3, 5), (4, 6), (5, 8)):
            with pytest.raises(ValueError, match="no file holds elements . to .* of weight/a"):
                files.read("weight/a", begin, end)
        with pytest.raises(ValueError, match="of exp_avg/a"):
            files.read("exp_avg/a", 0, 1)
    with pytest.raises(OSError):
        StateFiles(tmp_path, 3)
