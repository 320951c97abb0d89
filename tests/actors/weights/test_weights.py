"""The published file, and the checks of a weight update; tests/actors/workers/test_rollout.py has those with engines."""

import dataclasses
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from actors.weights.manifest import check
from actors.weights.shm import ShmPublisher, check_file, packed_size, read
from uec.errors import RunFailed

PARAMETERS = {
    "odd": torch.arange(7, dtype=torch.float32),
    "half": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3) / 3,
    "view": torch.arange(12, dtype=torch.float32).reshape(3, 4).t(),
    "scalar": torch.tensor(2.5),
}


@pytest.fixture
def publisher(tmp_path: Path):
    publisher = ShmPublisher(0, tmp_path)
    yield publisher
    publisher.close()


def test_what_is_read_is_what_was_published_bit_for_bit_in_each_dtype(publisher):
    update = publisher.publish(1, PARAMETERS.items())
    check_file(update)
    found = dict(read(update.location, update.names, update.dtypes, update.shapes))
    assert list(found) == list(PARAMETERS)
    for name, tensor in PARAMETERS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_the_size_counts_each_tensor_from_a_multiple_of_64_bytes(publisher):
    # odd 0..28, half 64..76, view 128..176, scalar 192..196
    assert packed_size(["float32", "bfloat16", "float32", "float32"], [[7], [2, 3], [4, 3], []]) == 196
    update = publisher.publish(1, PARAMETERS.items())
    assert update.nbytes == 196 == os.path.getsize(update.location)


def test_parameters_may_be_gone_when_the_next_one_is_asked_for(publisher):
    """As ZeRO-3 gathers them: one buffer for all."""
    buffer = torch.empty(4)

    def gathered():
        for value in (1.0, 2.0):
            yield str(value), buffer.fill_(value)

    update = publisher.publish(1, gathered())
    assert {n: t.tolist() for n, t in read(update.location, update.names, update.dtypes, update.shapes)} == {
        "1.0": [1.0] * 4,
        "2.0": [2.0] * 4,
    }


def test_the_version_before_stays_as_it_was_while_the_next_is_published(publisher):
    first = publisher.publish(1, PARAMETERS.items())
    second = publisher.publish(2, ((name, tensor + 1) for name, tensor in PARAMETERS.items()))
    check_file(first)
    check_file(second)
    assert first.digest != second.digest and first.location != second.location


def test_an_overwritten_version_is_refused(publisher):
    first = publisher.publish(1, PARAMETERS.items())
    publisher.publish(2, PARAMETERS.items())
    publisher.publish(3, ((name, tensor + 1) for name, tensor in PARAMETERS.items()))
    with pytest.raises(RunFailed, match="not those published"):
        check_file(first)


def test_a_file_of_another_machine_is_named_as_such(publisher):
    update = publisher.publish(1, PARAMETERS.items())
    publisher.close()
    with pytest.raises(RunFailed, match="not to be seen on .* rank 0. Use weights.backend=nccl"):
        check_file(update)


def test_only_this_user_may_read_the_folder_and_it_goes_with_the_publisher(tmp_path):
    publisher = ShmPublisher(0, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    publisher.close()
    assert not list(tmp_path.iterdir())


def test_the_next_publisher_removes_the_folder_of_a_killed_one_and_no_other(tmp_path, publisher):
    script = (
        "import os, sys; from pathlib import Path; from actors.weights.shm import ShmPublisher\n"
        "ShmPublisher(0, Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)])
    assert len(list(tmp_path.iterdir())) == 2
    other = ShmPublisher(0, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    check_file(publisher.publish(1, PARAMETERS.items()))
    other.close()


def test_too_little_shared_memory_fails_at_the_first_weight_update_with_the_sizes(publisher, monkeypatch):
    real = os.posix_fallocate

    def full(file: int, offset: int, size: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}").endswith("0.bin"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunFailed, match=r"needs \d+ MiB and more.*MiB left.*--shm-size"):
        publisher.publish(1, PARAMETERS.items())  # 1.bin is there; 0.bin, for version 2, cannot be


def test_other_ranks_gather_and_return_nothing(tmp_path):
    asked = []
    assert ShmPublisher(1, tmp_path).publish(1, ((name, asked.append(name)) for name in PARAMETERS)) is None
    assert asked == list(PARAMETERS) and not list(tmp_path.iterdir())


def test_a_weight_update_must_name_the_models_parameters_and_no_others(publisher):
    update = publisher.publish(1, PARAMETERS.items())
    expected = {name: list(tensor.shape) for name, tensor in PARAMETERS.items()}
    check(update, expected)
    for change, cause in (
        ({"dtypes": ["float32", "float8", "float32", "float32"]}, "float8 is no dtype of weights"),
        ({"names": ["odd", "half", "view", "view"]}, "scalar is missing"),
        ({"nbytes": 197}, "have 196 bytes, published were 197"),
    ):
        with pytest.raises(RunFailed, match=f"version 1 do not fit.*{cause}"):
            check(dataclasses.replace(update, **change), expected)
    with pytest.raises(RunFailed, match=r"new is missing"):
        check(update, {**expected, "new": [1]})
