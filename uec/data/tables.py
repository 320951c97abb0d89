"""Find the tables of a data set: files, folders, saved datasets and datasets of the Hugging Face hub, one or several."""

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uec.brief import brief
from uec.config.fields import texts
from uec.data.columns import Row
from uec.data.files import ENDINGS, check_kind, read_file
from uec.data.folders import check_pattern, choose_files
from uec.errors import BadInput
from uec.system.hub import is_offline, why_unreachable

FORMS = "a file (.jsonl, .json, .csv, .parquet, .arrow), a folder, a dataset name such as openai/gsm8k:main, or a list of those"


@dataclass(frozen=True)
class Table:
    """The rows of one file, saved folder or hub dataset. Images are as stored, because `to_list` of `datasets` decodes none."""

    rows: list[Row]
    folder: Path | None  # start of relative paths in the rows; None for a hub dataset
    name: str = "rows"  # for messages


def load_rows(source: Any, split: str, field: str) -> list[Row]:
    """Return the rows of `load_tables` as one list."""
    return [row for table in load_tables(source, split, field) for row in table.rows]


def load_tables(source: Any, split: str, field: str) -> list[Table]:
    """Return all tables, with at least one row. `split` applies to folders and dataset names; `field`: config field that messages name.

    `source`: a text or a list of texts. A dataset name is `owner/name`, or `owner/name:configuration`. Raises BadInput.
    """
    sources = texts(source)
    if not sources:
        raise BadInput(f"{field} names no data; give {FORMS}")
    tables = []
    read: set[Path] = set()
    for one in sources:
        found = _load(one, split, field)
        if not any(table.rows for table in found):
            raise BadInput(f"{field}: {brief(one, 300)[1:-1]} holds no rows")
        tables += found
        if (path := Path(one).expanduser()).exists():
            if path.resolve() in read:
                raise BadInput(f"{field}: {one} is named twice; leave one out")
            read.add(path.resolve())
    return tables


def _load(source: str, split: str, field: str) -> list[Table]:
    if not source.strip():
        raise BadInput(f"{field} is an empty text; give {FORMS}")
    try:
        path = Path(source).expanduser()
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, an unknown user
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"{field}: {brief(source, 200)} cannot be a path: {reason}; give {FORMS}") from error
    if "\0" in source:
        raise BadInput(f"{field}: {brief(source, 200)} cannot be a path: it holds a zero byte; give {FORMS}")
    if is_folder:
        return _read_folder(path, split, field)
    if exists:
        check_kind(path, field)
        return [_table(path, field)]
    if glob.has_magic(source) and (files := sorted(Path(name) for name in glob.glob(str(path)) if Path(name).is_file())):
        check_pattern(files, source, field)
        return [_table(file, field) for file in files]
    if _is_path(source):
        several = f"; several files are a list, {field}=[{source.replace(',', ', ')}]" if "," in source else ""
        raise BadInput(f"{field}: there is no file {path.absolute()}; give {FORMS}{several}")
    return [Table(_download(source, split, field), None, source)]


def _is_path(source: str) -> bool:
    """Return whether `source` can only be a path, and not `owner/name`."""
    return source.lower().endswith(ENDINGS) or source.startswith((".", "~", "/")) or source.count("/") > 1


def _table(path: Path, field: str) -> Table:
    return Table(read_file(path, field), path.absolute().parent, str(path))


def _read_folder(path: Path, split: str, field: str) -> list[Table]:
    """Read a folder of Dataset.save_to_disk, or the files of the split."""
    if not (path / "dataset_dict.json").is_file() and not (path / "state.json").is_file():
        return [_table(file, field) for file in choose_files(path, split, field)]
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
        if isinstance(loaded, datasets.DatasetDict):
            if split not in loaded:
                raise BadInput(f"{field}: {path} has no split {split}; it has {', '.join(loaded)}. Set {field}_split")
            loaded = loaded[split]
        return [Table(loaded.to_list(), path.absolute(), str(path))]
    except BadInput:
        raise
    except Exception as error:  # the library raises many kinds
        raise BadInput(f"{field}: {path} is no dataset that can be read: {str(error)[:300]}") from error


def _download(source: str, split: str, field: str) -> list[Row]:
    """Load a hub dataset; with HF_HUB_OFFLINE, from the local cache."""
    name, _, configuration = source.partition(":")
    nothing = f"{field}: there is no file or folder {source}, and as a dataset name"
    instead = "Pass a file instead"
    reason = why_unreachable()
    if reason is not None and not is_offline():
        raise BadInput(f"{nothing} it needs the hub: {reason}. {instead}, or set HF_HUB_OFFLINE=1 if the dataset is in the cache")
    import datasets

    try:
        return datasets.load_dataset(name, configuration or None, split=split).to_list()
    except Exception as error:  # the library and the dataset's files may raise any exception
        if is_offline():
            raise BadInput(f"{nothing} it is not in the cache, and HF_HUB_OFFLINE is set. {instead}, or unset HF_HUB_OFFLINE") from error
        cause = str(error)[:300]
        raise BadInput(f"{nothing}, split {split}, it cannot be loaded: {cause}. {instead}, or correct the name or the split") from error
