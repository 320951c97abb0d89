"""The files of a saved training state: each holds one rank's parts of the parameters, and any slice can be read from them together."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor


class StateFiles:
    """Opens state-00000.safetensors to state-R.safetensors of a folder. A context manager."""

    def __init__(self, folder: Path, ranks: int) -> None:
        """Raises OSError, ValueError or SafetensorError if files are missing or damaged."""
        self._parts: dict[str, list[tuple[int, int, Any]]] = {}  # by tensor: begin, end, the slice of a file
        self._open = ExitStack()
        try:
            for rank in range(ranks):
                file = self._open.enter_context(safe_open(folder / f"state-{rank:05d}.safetensors", "pt"))
                begins = json.loads(file.metadata()["begins"])
                for key in file.keys():  # noqa: SIM118
                    part, begin = file.get_slice(key), begins[key.partition("/")[2]]
                    self._parts.setdefault(key, []).append((begin, begin + part.get_shape()[0], part))
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> "StateFiles":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def read(self, key: str, begin: int, end: int) -> Tensor:
        """Return elements begin to end of a flat tensor. Raises ValueError if the files do not hold all of them."""
        found = torch.empty(max(0, end - begin))
        done = begin
        for part_begin, part_end, part in sorted(self._parts.get(key, []), key=lambda item: item[0]):
            low, high = max(begin, part_begin), min(end, part_end)
            if low < high:
                if low != done:
                    break
                found[low - begin : high - begin] = part[low - part_begin : high - part_begin]
                done = high
        if done < end:
            raise ValueError(f"no file holds elements {done} to {end} of {key}")
        return found
