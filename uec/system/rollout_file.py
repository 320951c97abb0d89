"""Rollouts on disk: a safetensors file of their arrays, the rest as JSON in its header."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

from uec.types import Kind, Rollout

ARRAYS = ("prompt_tokens", "tokens", "logprobs", "old_logprobs")
SCALARS = tuple(f.name for f in fields(Rollout) if f.name not in ARRAYS)


def save_rollouts(path: Path, rollouts: list[Rollout], notes: list[dict[str, Any]]) -> None:
    """Write rollouts, each with a JSON-able note of its own. Exact: floats keep their bits, the order stays."""
    arrays = {}
    rows = []
    for i, (rollout, note) in enumerate(zip(rollouts, notes, strict=True)):
        rows.append({"rollout": {name: getattr(rollout, name) for name in SCALARS}, "note": note})
        for name in ARRAYS:
            array = getattr(rollout, name)
            if array is not None:
                arrays[f"{i}.{name}"] = array
    save_file(arrays, path, metadata={"rows": json.dumps(rows)})


def load_rollouts(path: Path) -> tuple[list[Rollout], list[dict[str, Any]]]:
    """The rollouts and notes of `save_rollouts`, in their order. Reads data only: nothing in the file is run."""
    rollouts, notes = [], []
    with safe_open(path, framework="numpy") as file:
        names = set(file.keys())
        for i, row in enumerate(json.loads(file.metadata()["rows"])):
            values: dict[str, Any] = dict(row["rollout"])
            values["kind"] = Kind(values["kind"])
            for name in ARRAYS:
                key = f"{i}.{name}"
                values[name] = file.get_tensor(key) if key in names else None
            rollouts.append(Rollout(**values))
            notes.append(row["note"])
    return rollouts, notes
