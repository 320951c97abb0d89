"""Trajectories on disk: a safetensors file with their arrays, and all other values as JSON in its header."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

from uec.types import Kind, Trajectory

ARRAYS = ("prompt_tokens", "tokens", "logprobs", "generated", "old_logprobs")
SCALARS = tuple(f.name for f in fields(Trajectory) if f.name not in ARRAYS)


def save_rollouts(path: Path, trajectories: list[Trajectory], notes: list[dict[str, Any]]) -> None:
    """Write trajectories, each with a note that JSON can represent. The file keeps the order and the exact floats."""
    arrays = {}
    rows = []
    for i, (trajectory, note) in enumerate(zip(trajectories, notes, strict=True)):
        rows.append({"trajectory": {name: getattr(trajectory, name) for name in SCALARS}, "note": note})
        for name in ARRAYS:
            array = getattr(trajectory, name)
            if array is not None:
                arrays[f"{i}.{name}"] = array
    save_file(arrays, path, metadata={"rows": json.dumps(rows)})


def load_rollouts(path: Path) -> tuple[list[Trajectory], list[dict[str, Any]]]:
    """Read the trajectories and notes that `save_rollouts` wrote, in order. Executes no code from the file."""
    trajectories, notes = [], []
    with safe_open(path, framework="numpy") as file:
        names = set(file.keys())
        for i, row in enumerate(json.loads(file.metadata()["rows"])):
            values: dict[str, Any] = dict(row["trajectory"])
            values["kind"], values["versions"] = Kind(values["kind"]), tuple(values["versions"])
            for name in ARRAYS:
                key = f"{i}.{name}"
                values[name] = file.get_tensor(key) if key in names else None
            trajectories.append(Trajectory(**values))
            notes.append(row["note"])
    return trajectories, notes
