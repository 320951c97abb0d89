"""Choose the files of one split in a folder, and refuse folders in which several sets lie side by side.

A file belongs to a split by its name (train.jsonl, gsm8k-train.csv, train-00000-of-00002.parquet), or else by a folder above it
(train/0000.parquet). Hidden files, hidden folders and the copies that editors, browsers and file managers make are no data.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from uec.data.files import COMPRESSIONS, FORMS, data_suffix
from uec.errors import BadInput

COPY = re.compile(
    r" *\(\d+\)$|[-_ ]copy[-_ ]*\(?\d*\)?$|^copy (\(\d+\) )?of |[.]sync-conflict-|[-_.](bak|backup|old|orig|tmp)$", re.IGNORECASE
)
"""In the names of copies: train (1), train-Copy1, train - Copy, Copy of train, train.bak."""

SHARD = re.compile(r"[-_.]?(?P<number>\d+)(?:-of-(?P<total>\d+))?$")
METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "metadata.json", "metadata.jsonl", "config.json"}
WEAK_SUFFIXES = (".json", ".csv", ".tsv")
"""Files that may also be something else than rows, where no name says so."""

SYNONYMS = (
    ("train", "training"),
    ("test", "testing"),
    ("validation", "valid", "val", "dev"),
    ("eval", "evaluation"),
    ("holdout", "heldout"),
)


@dataclass(frozen=True)
class _File:
    path: Path
    inside: Path  # relative to the folder
    suffix: str  # of its format
    compressed: bool
    stem: str  # without suffixes and the number of a shard
    total: int | None  # shards that there should be
    number: int | None

    @property
    def set(self) -> tuple[Path, str]:
        """Return what files of one set have in common."""
        return self.inside.parent, self.stem


def choose_files(folder: Path, split: str, field: str) -> list[Path]:
    """Return the files of the split, in the order of their names. Raises BadInput."""
    files = _files(folder)
    if not files:
        raise BadInput(f"{field}: there is no data file in the folder {folder}; give a folder with files that end in {FORMS}")
    chosen = _of_split(files, split)
    if not chosen:
        raise BadInput(
            f"{field}: no file in {folder} is named after the split {split}; there are {_shown(files)}{_other_split(files, field)}"
        )
    _check_one_set(chosen, folder, field)
    return [file.path for file in chosen]


def check_pattern(files: list[Path], pattern: str, field: str) -> None:
    """Raise BadInput if the files that a pattern names are of several splits, or seem to hold the same rows twice."""
    described = [_described(path, Path()) for path in files]
    if len({name for file in described for name in _named_splits(file.stem, _known())}) > 1:
        raise BadInput(f"{field}: {_shown(described)} of {pattern} are files of several splits; give a pattern for one")
    if len({(file.inside.parent, file.stem) for file in described}) < len({(file.set, file.suffix, file.compressed) for file in described}):
        raise BadInput(f"{field}: {_shown(described)} of {pattern} seem to hold the same rows in several formats; give one of the files")


def _files(folder: Path) -> list[_File]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in names:
            path = Path(place, name)
            if not name.startswith((".", "~", "#")) and name.lower() not in METADATA and data_suffix(path) and path.exists():
                file = _described(path, folder)
                if not COPY.search(_bare(path)):
                    found.append(file)
    return sorted(found, key=lambda file: (str(file.inside.parent), file.stem, file.number or 0, file.inside.name))


def _bare(path: Path) -> str:
    """Return the name without the suffixes of format and compression."""
    stem = path.stem if path.suffix.lower() in COMPRESSIONS else path.name
    return Path(stem).stem


def _described(path: Path, folder: Path) -> _File:
    bare = _bare(path)
    shard = SHARD.search(bare)
    stem = bare[: shard.start()] if shard else bare
    total = int(shard["total"]) if shard and shard["total"] else None
    number = int(shard["number"]) if shard else None
    compressed = path.suffix.lower() in COMPRESSIONS
    inside = path.relative_to(folder) if path.is_relative_to(folder) else path
    return _File(path, inside, data_suffix(path) or "", compressed, stem.lower(), total, number)


def _named_splits(text: str, splits: Iterable[str]) -> set[str]:
    return {split for split in splits if re.search(rf"(?<![a-z0-9]){re.escape(split.lower())}(?![a-z0-9])", text.lower())}


def _known() -> list[str]:
    return [name for group in SYNONYMS for name in group]


def _alike(split: str) -> tuple[str, ...]:
    return next((group for group in SYNONYMS if split.lower() in group), (split.lower(),))


def _splits_of(file: _File, split: str) -> set[str]:
    """Return the splits that a file's name has, or else the nearest folder above it that has some."""
    names = {*_known(), *_alike(split)}
    for text in (file.stem, *reversed(file.inside.parent.parts)):
        if found := _named_splits(text, names):
            return found
    return set()


def _of_split(files: list[_File], split: str) -> list[_File]:
    wanted = _alike(split)
    if exact := [file for file in files if file.stem == split.lower()]:
        return exact
    if named := [file for file in files if _splits_of(file, split) & set(wanted)]:
        return named
    if any(_splits_of(file, split) for file in files):
        return []
    strong = [file for file in files if file.suffix not in WEAK_SUFFIXES] or files
    return strong if len({file.set for file in strong}) == 1 else []


def _other_split(files: list[_File], field: str) -> str:
    """Return how to take another split, if the files have just one."""
    splits = {name for file in files for name in _splits_of(file, "train")}
    return f"; if that is meant, set {field}_split={splits.pop()}" if len(splits) == 1 else "; give one of them, or a list of those to join"


def _check_one_set(chosen: list[_File], folder: Path, field: str) -> None:
    sets = sorted({file.set for file in chosen})
    if len({place for place, _ in sets}) > 1:
        places = [str(folder / place) for place, _ in sets]
        raise BadInput(
            f"{field}: {_shown(chosen)} in {folder} lie in several folders, as configurations of one data set do; give one folder, such as "
            f"{field}={places[0]}, or list those to join: {field}=[{places[0]}, {places[-1]}]"
        )
    if len(sets) > 1:
        raise BadInput(
            f"{field}: {_shown(chosen)} in {folder} are several sets; give one file, or list those to join: "
            f"{field}=[{chosen[0].path}, {chosen[-1].path}]"
        )
    if len({(file.suffix, file.compressed) for file in chosen}) > 1:
        raise BadInput(f"{field}: {_shown(chosen)} in {folder} seem to hold the same rows in several formats; give one of the files")
    totals = {file.total for file in chosen}
    if len(totals) > 1:
        raise BadInput(
            f"{field}: {_shown(chosen)} in {folder} are parts of different divisions; remove the old ones, or give a list of files"
        )
    (total,) = totals
    if total is not None and (missing := sorted(set(range(total)) - {file.number for file in chosen})):
        raise BadInput(f"{field}: {folder} lacks part {missing[0]} of {total} of {chosen[0].stem} ({len(chosen)} are there); copy it there")


def _shown(files: list[_File]) -> str:
    texts = [str(file.inside) for file in files]
    return ", ".join(texts[:6]) + (f" and {len(texts) - 6} more" if len(texts) > 6 else "")
