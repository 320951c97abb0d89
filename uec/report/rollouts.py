"""The responses that the page shows: groups of steps spread over the run, preferring difficult and replayed ones."""

import base64
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from uec.report.jsonl import damaged, read_lines

MOST_STEPS = 12
IMAGE_SIDE = 448
"""Maximum of an image's longer side, in pixels."""

ROW = ("step", "prompt_index", "group", "index", "prompt", "response", "kind", "reward", "accuracy")
SHOWN = (
    "index", "response", "kind", "temperature", "reward", "accuracy", "parts", "advantage", "kept", "truncated", "error", "tokens",
    "logprob_mean", "logprobs", "token_ends",
)  # fmt: skip

KINDS = {"prompt": str, "response": str, "kind": str, "images": list, "parts": dict} | dict.fromkeys(
    ("step", "prompt_index", "group", "index"), int
)
KIND_NAMES: dict[type, str] = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}
NUMBERS = ("reward", "accuracy", "advantage", "logprob_mean", "tokens", "temperature")

Key = tuple[int, int, int]
"""Step, group and index of a response. A group's number is unique only until the run is restarted."""


def read_rollouts(folder: Path, most_groups: int) -> dict[str, Any]:
    """Return a run's responses in groups, one for each prompt of a step, and their images as data URIs; groups refer to images by position.

    A run that wrote no rollouts has no groups. Raises BadInput that names a damaged file and line.
    """
    files = sorted((folder / "rollouts").glob("step_*.jsonl")) if most_groups else []
    chosen = spread(files, min(MOST_STEPS, most_groups))
    replayed = _replayed(folder) if chosen else {}
    images = Images(folder)
    groups: list[dict[str, Any]] = []
    for i, file in enumerate(chosen):
        share = (most_groups - len(groups)) // (len(chosen) - i)
        groups += [_shown(rows, images) for rows in preferred(_groups(file, replayed), share)]
    return {"groups": groups, "images": images.uris, "steps": len(files)}


def spread(files: list[Path], most: int) -> list[Path]:
    """Return at most `most` evenly spread files, including the last one and (from two files on) the first one."""
    if len(files) <= most:
        return files
    if most < 2:
        return files[-1:] if most else []
    return [files[round(i * (len(files) - 1) / (most - 1))] for i in range(most)]


def preferred(groups: list[list[dict[str, Any]]], most: int) -> list[list[dict[str, Any]]]:
    """Return at most `most` groups in order; half of them are difficult or, if these are too few, have a replayed response."""
    if len(groups) <= most:
        return groups
    rare = [i for i, rows in enumerate(groups) if any(row.get("difficult") for row in rows)]
    rare += [i for i, rows in enumerate(groups) if i not in rare and any(row["replayed"] for row in rows)]
    rest = [i for i in range(len(groups)) if i not in rare]
    half = max(-(-most // 2), most - len(rest))
    taken = rare[:half]
    taken += rest[: most - len(taken)]
    return [groups[i] for i in sorted(taken)]


def _groups(file: Path, replayed: dict[Key, list[int]]) -> list[list[dict[str, Any]]]:
    """Return a step's responses by prompt, regular and exploration together, each with the steps of the replay updates that drew it."""
    found: dict[int, list[dict[str, Any]]] = {}
    for number, row in enumerate(read_lines(file, ROW), 1):
        _check(row, file, number)
        row["replayed"] = replayed.get((row["step"], row["group"], row["index"]), [])
        found.setdefault(row["prompt_index"], []).append(row)
    return list(found.values())


def _check(row: dict[str, Any], file: Path, number: int) -> None:
    """Raise BadInput for a value of a type that the page cannot show; NaN and infinity become null."""
    row["images"], row["parts"] = row.get("images") or [], row.get("parts") or {}
    for key, kind in KINDS.items():
        if not isinstance(row[key], kind):
            raise damaged(file, number, f"{key} is {str(row[key])[:40]!r}, expected {KIND_NAMES[kind]}")
    for name in ("logprobs", "token_ends"):
        if row.get(name) is not None and not isinstance(row[name], list):
            raise damaged(file, number, f"{name} is {str(row[name])[:40]!r}, expected a list or null")
    row["logprobs"] = None if row.get("logprobs") is None else [_number(value, "logprobs", file, number) for value in row["logprobs"]]
    row["parts"] = {part: _number(value, f"parts.{part}", file, number) for part, value in row["parts"].items()}
    for name in NUMBERS:
        row[name] = _number(row.get(name), name, file, number)


def _number(value: Any, name: str, file: Path, number: int) -> float | int | None:
    if value is not None and not isinstance(value, int | float):
        raise damaged(file, number, f"{name} is {str(value)[:40]!r}, expected a number or null")
    return value if value is not None and math.isfinite(value) else None


def _replayed(folder: Path) -> dict[Key, list[int]]:
    found: dict[Key, list[int]] = {}
    for file in sorted((folder / "rollouts").glob("replayed_*.jsonl")):
        for row in read_lines(file, ("step", "admitted", "group", "index")):
            found.setdefault((row["admitted"], row["group"], row["index"]), []).append(row["step"])
    return found


def _shown(rows: list[dict[str, Any]], images: "Images") -> dict[str, Any]:
    first = rows[0]
    return {
        "step": first["step"],
        "group": first["group"],
        "prompt": first["prompt"],
        "answer": first.get("answer"),
        "images": images.positions(first.get("images", [])),
        "difficult": any(row.get("difficult") for row in rows),
        "responses": [{name: row.get(name) for name in SHOWN} | {"replayed": row["replayed"]} for row in rows],
    }


class Images:
    """Images of prompts, scaled down and without duplicates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uris: list[str | None] = []  # None: the file is gone, or no image
        self._known: dict[str, int] = {}

    def positions(self, paths: Iterable[str]) -> list[int]:
        """Return each image's position in `uris`."""
        found = []
        for path in paths:
            if path not in self._known:
                self._known[path] = len(self.uris)
                self.uris.append(_uri(self.folder / path))
            found.append(self._known[path])
        return found


def _uri(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
            file = io.BytesIO()
            image.convert("RGB").save(file, "PNG", optimize=True)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
