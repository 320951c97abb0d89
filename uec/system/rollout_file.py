"""Trajectories on disk: a safetensors file with their arrays, and all other values as JSON in its header."""

import json
import struct
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import load, save, save_file

from uec.types import Kind, Trajectory

ARRAYS = ("prompt_tokens", "tokens", "logprobs", "generated", "old_logprobs")
SCALARS = tuple(f.name for f in fields(Trajectory) if f.name not in ARRAYS)


def save_rollouts(path: Path, trajectories: list[Trajectory], notes: list[dict[str, Any]]) -> None:
    """Write trajectories, each with a note that JSON can represent. The file keeps the order and the exact floats."""
    arrays, metadata = _encoded(trajectories, notes)
    save_file(arrays, path, metadata=metadata)


def dump_rollouts(trajectories: list[Trajectory], notes: list[dict[str, Any]]) -> bytes:
    """Return the content of the file that `save_rollouts` writes."""
    arrays, metadata = _encoded(trajectories, notes)
    return save(arrays, metadata=metadata)


def _encoded(trajectories: list[Trajectory], notes: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    arrays = {}
    rows = []
    for i, (trajectory, note) in enumerate(zip(trajectories, notes, strict=True)):
        rows.append({"trajectory": {name: getattr(trajectory, name) for name in SCALARS}, "note": note})
        for name in ARRAYS:
            array = getattr(trajectory, name)
            if array is not None:
                arrays[f"{i}.{name}"] = array
    return arrays, {"rows": json.dumps(rows)}


def load_rollouts(path: Path) -> tuple[list[Trajectory], list[dict[str, Any]]]:
    """Read the trajectories and notes that `save_rollouts` wrote, in order. Executes no code from the file."""
    with safe_open(path, framework="numpy") as file:
        return _decoded(file.metadata()["rows"], {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def parse_rollouts(content: bytes) -> tuple[list[Trajectory], list[dict[str, Any]]]:
    """Read what `dump_rollouts` returned."""
    (length,) = struct.unpack_from("<Q", content)
    return _decoded(json.loads(content[8 : 8 + length])["__metadata__"]["rows"], load(content))


def _decoded(rows: str, arrays: dict[str, Any]) -> tuple[list[Trajectory], list[dict[str, Any]]]:
    trajectories, notes = [], []
    for i, row in enumerate(json.loads(rows)):
        values: dict[str, Any] = dict(row["trajectory"])
        values["kind"], values["versions"] = Kind(values["kind"]), tuple(values["versions"])
        values |= {name: arrays.get(f"{i}.{name}") for name in ARRAYS}
        trajectories.append(Trajectory(**values))
        notes.append(row["note"])
    return trajectories, notes
