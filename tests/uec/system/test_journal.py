"""A journal gives back what was written, whatever its writer's death left at its end."""

from pathlib import Path

import pytest

from uec.system.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.journal"


def written(path: Path, *records: bytes) -> Journal:
    journal = Journal(path)
    journal.restart(records[0])
    for record in records[1:]:
        journal.append(record)
    return journal


def test_records_come_back_in_their_order(path: Path) -> None:
    written(path, b"first", b"", b"third")
    assert list(Journal(path).read()) == [b"first", b"", b"third"]


def test_a_record_that_was_cut_off_ends_the_journal_and_later_ones_follow_the_last_whole_one(path: Path) -> None:
    written(path, b"first", b"second", b"the last one")
    whole = path.read_bytes()
    for cut in range(1, 16 + len(b"the last one")):
        path.write_bytes(whole[:-cut])
        journal = Journal(path)
        assert list(journal.read()) == [b"first", b"second"]
        journal.append(b"after")
        assert list(Journal(path).read()) == [b"first", b"second", b"after"]


def test_a_changed_record_is_not_given_back(path: Path) -> None:
    written(path, b"first", b"second")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert list(Journal(path).read()) == [b"first"]


def test_a_length_that_was_never_written_takes_no_memory(path: Path) -> None:
    written(path, b"first")
    with path.open("ab") as file:
        file.write(b"\xff" * 40)
    assert list(Journal(path).read()) == [b"first"]


def test_a_restart_leaves_one_record_and_counts_from_there(path: Path) -> None:
    journal = written(path, b"first", b"second", b"third")
    assert journal.records == 2
    journal.restart(b"all of it")
    assert journal.records == 0
    journal.append(b"fourth")
    assert list(Journal(path).read()) == [b"all of it", b"fourth"]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_records_before() -> None:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("no /dev/full")
    with pytest.raises(OSError):
        Journal(device).append(b"something")
