"""The files and folders in which people keep their data."""

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from uec.data.tables import load_rows
from uec.errors import BadInput

ROWS = [{"q": "a, b", "a": "007"}, {"q": 'say "é"\nand go', "a": "1e3"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = '\ufeffq,a\r\n"a, b",007\r\n"say ""é""\nand go",1e3\r\n\r\n'.encode()


ROWS_TABLE = {key: [row[key] for row in ROWS] for key in ("q", "a")}


def arrow() -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, pyarrow.table(ROWS_TABLE).schema) as writer:
        writer.write_table(pyarrow.table(ROWS_TABLE))
    return sink.getvalue().to_pybytes()


def complaint(action: Callable[[], Any]) -> str:
    with pytest.raises(BadInput) as raised:
        action()
    return str(raised.value)


def rows(path: Path | str, split: str = "train") -> list[dict[str, Any]]:
    return load_rows(str(path), split, "data.train")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("A.JSONL", LINES),
        ("a.ndjson", LINES),
        ("a.json", json.dumps(ROWS, indent=1).encode()),
        ("a.json", LINES),
        ("a.jsonl", json.dumps(ROWS).encode()),
        ("a.csv", CSV),
        ("a.csv", CSV.replace(b"q,a", b"q;a").replace(b'b",', b'b";').replace(b'go",', b'go";')),
        ("a.TSV", b"q\ta\na, b\t007\n" + '"say ""é""\nand go"\t1e3'.encode()),
        ("a.arrow", arrow()),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)),
        ("a.Json.GZ", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
        ("a.csv.bz2", bz2.compress(CSV)),
        ("a.jsonl.xz", lzma.compress(LINES)),
    ],
)
def test_each_format_gives_the_same_rows_and_no_text_becomes_a_number(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert rows(tmp_path / name) == ROWS


def test_compressed_parquet_zstandard_and_feather_are_read(tmp_path: Path) -> None:
    with pyarrow.output_stream(str(tmp_path / "a.jsonl.zst"), compression="zstd") as stream:
        stream.write(LINES)
    pyarrow.parquet.write_table(pyarrow.table(ROWS_TABLE), tmp_path / "a.parquet")
    (tmp_path / "b.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    pyarrow.feather.write_feather(pyarrow.table(ROWS_TABLE), tmp_path / "a.feather")
    for name in ("a.jsonl.zst", "b.parquet.gz", "a.feather"):
        assert rows(tmp_path / name) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": ' + b"9" * 5000 + b"}", "line 2: a number has more digits than can be read; write it as text"),
        ("a.jsonl", b'{"a": ' + b"[" * 100_000, "line 1: lists and objects are nested more than 100 deep"),
        ("a.jsonl", b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}", "line 1: lists and objects are nested more than 100 deep"),
        ("a.json", b"[" * 100_000, "nested more than 100 deep"),
        ("a.json", b'[{"a": 1}, 2]', "item 2: int where a JSON object is expected"),
        ("a.json", b'{\n "a": 1\n}', "is it one object over several lines? Put each row on a line"),
        ("a.csv", b"q,a\nx,y,z\n", "line 2: 3 values for 2 columns; put quotes around a text that holds ','"),
        ("a.csv", b"q,q\nx,y\n", "the first line names the column 'q' twice"),
        ("a.csv", b'q,a\n"x,y\n', "not CSV"),
        ("a.csv", b"q,a\nx,\0\n", "holds a zero byte"),
        ("a.csv", b"q,a\n", "holds no rows"),
        ("a.csv", b"q,a\n\xff,1\n", "is not UTF-8 text"),
        ("a.jsonl.gz", LINES, "cannot be read: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "cannot be read: "),
        ("a.jsonl.xz", LINES, "cannot be read: "),
        ("a.arrow", b"no arrow", "is no arrow file that can be read"),
        ("a.jsonl.bak", LINES, "has the ending .bak"),
        ("a", LINES, "has the ending (none)"),
    ],
)
def test_what_is_no_table_is_named_with_its_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    said = complaint(lambda: rows(tmp_path / name))
    assert said.startswith("data.train: ") and message in said and len(said) < 1000


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    assert "a.jsonl is a named pipe, and a run reads its data more than once" in complaint(lambda: rows(tmp_path / "a.jsonl"))
    (tmp_path / "b.jsonl").symlink_to("/dev/zero")
    assert "b.jsonl is a device" in complaint(lambda: rows(tmp_path / "b.jsonl"))
    assert "/dev/zero is a device" in complaint(lambda: rows("/dev/zero"))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "train.jsonl")
    assert "train.jsonl is a named pipe" in complaint(lambda: rows(tmp_path / "folder"))


@pytest.mark.parametrize("source", ["", " ", "a\0.jsonl", "x" * 5000, "~nobody-of-this-name/a.jsonl", []])
def test_what_cannot_be_a_path_is_one_short_message(source: Any) -> None:
    said = complaint(lambda: load_rows(source, "train", "data.train"))
    assert said.startswith("data.train") and "give a file" in said and len(said) < 1000


def test_several_files_are_read_in_their_order_and_none_twice(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("b.jsonl", "a.csv")]
    (tmp_path / "b.jsonl").write_text('{"q": "1"}')
    (tmp_path / "a.csv").write_text("q\n2\n")
    assert load_rows(names, "train", "data.train") == [{"q": "1"}, {"q": "2"}]
    assert "b.jsonl is named twice" in complaint(lambda: load_rows([names[0], str(tmp_path / "." / "b.jsonl")], "train", "data.train"))
    said = complaint(lambda: load_rows("a.jsonl,b.jsonl", "train", "data.train"))
    assert "several files are a list, data.train=[a.jsonl, b.jsonl]" in said


def test_a_pattern_names_files_of_one_split(tmp_path: Path) -> None:
    for name in ("x-1.jsonl", "x-2.jsonl", ".x-3.jsonl"):
        (tmp_path / name).write_text(json.dumps({"q": name}))
    assert rows(f"{tmp_path}/x-*.jsonl") == [{"q": "x-1.jsonl"}, {"q": "x-2.jsonl"}]
    assert "there is no file" in complaint(lambda: rows(f"{tmp_path}/y-*.jsonl"))
    (tmp_path / "test.jsonl").write_text("{}")
    (tmp_path / "train.jsonl").write_text("{}")
    assert "are files of several splits" in complaint(lambda: rows(f"{tmp_path}/t*.jsonl"))


# --- folders


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (["train.jsonl", "test.jsonl"], ["train.jsonl"]),
        (["Train.JSONL", "Test.JSONL"], ["Train.JSONL"]),
        (["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"], ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]),
        (["train_2.jsonl", "train_10.jsonl"], ["train_2.jsonl", "train_10.jsonl"]),
        (["gsm8k-train.jsonl", "gsm8k-test.jsonl"], ["gsm8k-train.jsonl"]),
        (["train/0000.jsonl", "train/0001.jsonl", "test/0000.jsonl"], ["train/0000.jsonl", "train/0001.jsonl"]),
        (["train.jsonl", ".train.jsonl", "train.jsonl~", "#train.jsonl#", "train-Copy1.jsonl"], ["train.jsonl"]),
        (["train.jsonl", "train (1).jsonl", "train copy.jsonl", "Copy of train.jsonl", "train.bak.jsonl"], ["train.jsonl"]),
        (["train.jsonl", ".ipynb_checkpoints/train-checkpoint.jsonl", ".git/train.jsonl", "__MACOSX/train.jsonl"], ["train.jsonl"]),
        (["rows.jsonl", "dataset_infos.json", "README.md"], ["rows.jsonl"]),
        (["rows.jsonl", "labels.csv"], ["rows.jsonl"]),
        (["part-0.jsonl", "part-1.jsonl"], ["part-0.jsonl", "part-1.jsonl"]),
    ],
)
def test_a_folders_split_is_found_without_hidden_files_and_copies(tmp_path: Path, files: list[str], taken: list[str]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"q": name}))
    assert [row["q"] for row in rows(tmp_path)] == taken


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["main/train.jsonl", "socratic/train.jsonl"], "lie in several folders, as configurations of one data set do; give one folder"),
        (["main-train.jsonl", "socratic-train.jsonl"], "are several sets; give one file"),
        (["a.jsonl", "b.jsonl"], "no file in"),
        (["train.jsonl", "train.csv"], "seem to hold the same rows in several formats"),
        (["train.jsonl", "train.jsonl.gz"], "seem to hold the same rows in several formats"),
        (["test.jsonl"], "is named after the split train; there are test.jsonl; if that is meant, set data.train_split=test"),
        (["validation/0000.jsonl"], "set data.train_split=validation"),
        (["train.jsonl", "train-00000-of-00001.jsonl"], "are parts of different divisions"),
        (["train-00000-of-00003.jsonl", "train-00002-of-00003.jsonl"], "lacks part 1 of 3 of train (2 are there)"),
        (["train.jsonl~"], "there is no data file in the folder"),
    ],
)
def test_a_folder_of_several_sets_or_of_another_split_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert message in complaint(lambda: rows(tmp_path))
