"""Read the rows of one file: JSON lines, a JSON list, CSV, parquet or arrow, also compressed.

Values are read as the file holds them. `datasets` would guess types, so that the text 007 of a CSV file becomes the number 7, and would
give every object of a JSON file the keys of all others.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uec.brief import brief
from uec.data.columns import Row
from uec.errors import BadInput

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*JSON_SUFFIXES, ".parquet", ".arrow", ".feather", ".csv", ".tsv")
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
ENDINGS = (*SUFFIXES, *COMPRESSIONS)
FORMS = ".jsonl, .json, .csv, .parquet or .arrow, also compressed"

DEEPEST = 100
"""Levels of lists and objects in a row."""


def data_suffix(path: Path) -> str | None:
    """Return the suffix that names the format, in lower case and without that of a compression; None for other files."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else None


def check_kind(path: Path, field: str) -> None:
    """Refuse a named pipe, a device and a socket: reading them may never end. Raises BadInput."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise BadInput(f"{field}: {brief(str(path), 200)} cannot be read: {_reason(error)}") from error
    if not stat.S_ISREG(mode):
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise BadInput(f"{field}: {path} is {kind}, and a run reads its data more than once; write them to a file, and give that")


def read_file(path: Path, field: str) -> list[Row]:
    """Return the rows of a file. Raises BadInput."""
    suffix = data_suffix(path)
    if suffix is None:
        raise BadInput(f"{field}: {path} has the ending {path.suffix or '(none)'}; a data file ends in {FORMS}")
    check_kind(path, field)
    try:
        content = _decompressed(path)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise BadInput(f"{field}: {path} cannot be read: {_reason(error)}") from error
    return _READERS[suffix](content, f"{field}: {path}")


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _decompressed(path: Path) -> bytes:
    match path.suffix.lower():
        case ".gz":
            return gzip.decompress(path.read_bytes())
        case ".bz2":
            return bz2.decompress(path.read_bytes())
        case ".xz":
            return lzma.decompress(path.read_bytes())
        case ".zst":
            import pyarrow

            with pyarrow.input_stream(str(path), compression="zstd") as stream:
                return bytes(stream.read())
    return path.read_bytes()


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{where} is not UTF-8 text ({error.reason} at byte {error.start})") from error


# --- JSON


def _read_json(content: bytes, where: str) -> list[Row]:
    """Read one object a line, or one list of objects."""
    text = _text(content, where)
    if text.lstrip()[:1] == "[" and (rows := _list_of_rows(text, where)) is not None:
        return rows
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: JSON text may hold U+2028
        if line.strip():
            rows.append(_row(_parsed(line, f"{where}, line {number}", "give one JSON object a line"), f"{where}, line {number}"))
    return rows


def _list_of_rows(text: str, where: str) -> list[Row] | None:
    """Return the rows of a JSON list; None if the first line is a list by itself, which is no row."""
    first, _, rest = text.strip().partition("\n")
    if rest.strip() and first.rstrip().endswith("]") and rest.lstrip()[:1] in ("[", "{"):
        return None
    value = _parsed(text, where, "give a list of JSON objects")
    return [_row(row, f"{where}, item {number}") for number, row in enumerate(value, 1)]


def _parsed(text: str, where: str, wanted: str) -> Any:
    try:
        return json.loads(text.strip())
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        hint = "; is it one object over several lines? Put each row on a line" if text.strip() in ("{", "}") else ""
        raise BadInput(f"{where}: not JSON ({error.msg}, {place}); {wanted}{hint}") from error
    except RecursionError:
        raise BadInput(f"{where}: lists and objects are nested more than {DEEPEST} deep; make the row flatter, or remove it") from None
    except ValueError as error:  # a number of more than 4,300 digits
        raise BadInput(f"{where}: a number has more digits than can be read; write it as text, in quotes") from error


def _row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise BadInput(f'{where}: {type(value).__name__} where a JSON object is expected, such as {{"prompt": "..."}}')
    if _depth_exceeds(value, DEEPEST):
        raise BadInput(f"{where}: lists and objects are nested more than {DEEPEST} deep; make the row flatter, or remove it")
    return value


def _depth_exceeds(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [
            each
            for one in level
            for each in (one.values() if isinstance(one, dict) else one)
            if isinstance(each, dict | list)
        ]  # fmt: skip
        if not level:
            return False
    return True


# --- tables


def _read_csv(content: bytes, where: str) -> list[Row]:
    return _separated(content, where, None)


def _read_tsv(content: bytes, where: str) -> list[Row]:
    return _separated(content, where, "\t")


def _separated(content: bytes, where: str, separator: str | None) -> list[Row]:
    """Read a table whose first line names the columns. Every value is text."""
    text = _text(content, where)
    if "\0" in text:
        raise BadInput(f"{where} holds a zero byte, so that it is no text table; write it again as UTF-8")
    csv.field_size_limit(len(content) + 1)
    header = text.lstrip("\r\n").partition("\n")[0]
    separator = separator or next((character for character in header if character in ",;\t"), ",")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[Row] = []
    columns: list[str] | None = None
    try:
        for values in lines:
            if not values or (len(values) == 1 and columns is not None and len(columns) > 1 and not values[0].strip()):
                continue
            if columns is None:
                columns = [name.strip() for name in values]
                if twice := sorted({name for name in columns if columns.count(name) > 1}):
                    raise BadInput(f"{where}: the first line names the column {brief(twice[0])} twice; give each a name of its own")
            elif len(values) != len(columns):
                raise BadInput(
                    f"{where}, line {lines.line_num}: {len(values)} values for {len(columns)} columns; put quotes around a text that "
                    f"holds {separator!r}"
                )
            else:
                rows.append(dict(zip(columns, values, strict=True)))
    except csv.Error as error:
        raise BadInput(f"{where}, line {lines.line_num}: not CSV ({error}); a quote inside a quoted text is written twice") from error
    return rows


def _read_parquet(content: bytes, where: str) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    return _from_arrow(lambda: pyarrow.parquet.read_table(pyarrow.BufferReader(content)), where, "parquet")


def _read_arrow(content: bytes, where: str) -> list[Row]:
    """Read a stream, as `datasets` writes it, or a file with a footer, as Feather is."""
    import pyarrow

    def read() -> Any:
        source = pyarrow.BufferReader(content)
        return (pyarrow.ipc.open_file(source) if content[:6] == b"ARROW1" else pyarrow.ipc.open_stream(source)).read_all()

    return _from_arrow(read, where, "arrow")


def _from_arrow(read: Callable[[], Any], where: str, kind: str) -> list[Row]:
    import pyarrow

    try:
        rows: list[Row] = read().to_pylist()
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, pyarrow.ArrowException) as error:
        raise BadInput(f"{where} is no {kind} file that can be read: {str(error)[:300]}") from error
    return rows


_READERS: dict[str, Callable[[bytes, str], list[Row]]] = {
    **dict.fromkeys(JSON_SUFFIXES, _read_json),
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
}
