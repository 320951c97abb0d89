"""Read the rows of a data set from a .jsonl or .parquet file, a folder, or a Hugging Face dataset name."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uec.errors import BadInput
from uec.system.hub import is_offline, why_unreachable

Row = dict[str, Any]

FORMS = "a .jsonl or .parquet file, a folder of those or of Dataset.save_to_disk, or a dataset name such as openai/gsm8k:main"


@dataclass(frozen=True)
class Table:
    """The rows of one file, saved folder or hub dataset. Images are as stored, because `to_list` of `datasets` decodes none."""

    rows: list[Row]
    folder: Path | None  # start of relative paths in the rows; None for a hub dataset


def load_rows(source: str, split: str, field: str) -> list[Row]:
    """Return the rows of `load_tables` as one list."""
    return [row for table in load_tables(source, split, field) for row in table.rows]


def load_tables(source: str, split: str, field: str) -> list[Table]:
    """Return all tables, with at least one row. `split` applies to folders and dataset names; `field`: config field that messages name.

    A dataset name is `owner/name`, or `owner/name:configuration`. Raises BadInput.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        tables = _read_folder(path, split, field)
    elif path.is_file():
        tables = [_read_file(path, field)]
    elif _is_path(source):
        raise BadInput(f"{field}: there is no file {path.absolute()}; give {FORMS}")
    else:
        tables = [Table(_download(source, split, field), None)]
    if not any(table.rows for table in tables):
        raise BadInput(f"{field}: {source} holds no rows")
    return tables


def _is_path(source: str) -> bool:
    """Return whether `source` can only be a path, and not `owner/name`."""
    return source.endswith((".jsonl", ".parquet", ".json", ".csv")) or source.startswith((".", "~", "/")) or source.count("/") > 1


def _read_file(path: Path, field: str) -> Table:
    match path.suffix:
        case ".jsonl":
            return Table(_read_jsonl(path, field), path.absolute().parent)
        case ".parquet":
            return Table(_read_parquet(path, field), path.absolute().parent)
    raise BadInput(f"{field}: {path} is neither .jsonl nor .parquet; give {FORMS}")


def _read_jsonl(path: Path, field: str) -> list[Row]:
    rows = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    rows.append(_parse_line(line, f"{field}: {path}, line {number}"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{field}: {path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise BadInput(f"{field}: {path} cannot be read: {error.strerror}") from error
    return rows


def _parse_line(line: str, where: str) -> Row:
    try:
        row = json.loads(line.rstrip())
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: not JSON ({error.msg}, column {error.colno}); give one JSON object a line") from error
    if not isinstance(row, dict):
        raise BadInput(f'{where}: {type(row).__name__} where a JSON object is expected, such as {{"prompt": "..."}}')
    return row


def _read_parquet(path: Path, field: str) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise BadInput(f"{field}: {path} is no parquet file that can be read: {error}") from error


def _read_folder(path: Path, split: str, field: str) -> list[Table]:
    """Read a folder of Dataset.save_to_disk, or its data files with the name of the split (train.parquet, train-00000-of-00002.parquet)."""
    import datasets

    if (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file():
        try:
            loaded = datasets.load_from_disk(str(path))
        except (OSError, ValueError) as error:
            raise BadInput(f"{field}: {path} is no dataset that can be read: {error}") from error
        if isinstance(loaded, datasets.DatasetDict):
            if split not in loaded:
                raise BadInput(f"{field}: {path} has no split {split}; it has {', '.join(loaded)}")
            loaded = loaded[split]
        return [Table(loaded.to_list(), path.absolute())]
    files = sorted(file for file in path.rglob("*") if file.suffix in (".jsonl", ".parquet"))
    if not files:
        raise BadInput(f"{field}: there is no .jsonl or .parquet file in the folder {path}; give {FORMS}")
    chosen = files if len(files) == 1 else [file for file in files if file.name.startswith((f"{split}-", f"{split}."))]
    if not chosen:
        there = ", ".join(file.name for file in files[:10])
        raise BadInput(f"{field}: no file in {path} is named after the split {split}; there are {there}")
    return [_read_file(file, field) for file in chosen]


def _download(source: str, split: str, field: str) -> list[Row]:
    """Load a hub dataset; with HF_HUB_OFFLINE, from the local cache."""
    name, _, configuration = source.partition(":")
    nothing = f"{field}: there is no file or folder {source}, and as a dataset name"
    instead = "Pass a .jsonl or .parquet file instead"
    reason = why_unreachable()
    if reason is not None and not is_offline():
        raise BadInput(f"{nothing} it needs the hub: {reason}. {instead}, or set HF_HUB_OFFLINE=1 if the dataset is in the cache")
    import datasets

    try:
        return datasets.load_dataset(name, configuration or None, split=split).to_list()
    except Exception as error:  # the library and the dataset's files may raise any exception
        if is_offline():
            raise BadInput(f"{nothing} it is not in the cache, and HF_HUB_OFFLINE is set. {instead}, or unset HF_HUB_OFFLINE") from error
        raise BadInput(f"{nothing}, split {split}, it cannot be loaded: {error}. {instead}, or correct the name or the split") from error
