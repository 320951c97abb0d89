"""The frozen model beside an adapter: its name and a digest of its weights, which checkpoints hold in place of the weights."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash

from uec.errors import BadInput

FILE = "base_model.json"


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model that an adapter belongs to."""

    path: str  # absolute path of a folder, or a hub name
    dtype: str  # in which it was loaded, and which the digest depends on
    digest: str  # of its weights

    @staticmethod
    def of(path: str, hf: Any) -> "BaseModel":
        """Return the name and digest of a model that is on CPU and has no adapters."""
        return BaseModel(path, str(hf.dtype).removeprefix("torch."), weights_digest(hf))

    @staticmethod
    def read(folder: Path) -> "BaseModel | None":
        """Read the file of a folder; None if it has none, as an adapter that another program wrote. Raises BadInput if it is damaged."""
        file = folder / FILE
        if not file.is_file():
            return None
        try:
            return BaseModel(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(f"{file} does not name an adapter's base model: {error}; copy the folder again") from error

    def write(self, folder: Path) -> None:
        """Write the file."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def check(self, folder: Path) -> None:
        """Raise BadInput if the adapter in `folder` belongs to another model than this one."""
        saved = BaseModel.read(folder)
        if saved is None:
            return
        if saved.dtype != self.dtype:
            raise BadInput(
                f"{folder} is of a run with model.dtype={saved.dtype}, and this model is {self.dtype}; set model.dtype={saved.dtype}"
            )
        if saved.digest != self.digest:
            raise BadInput(
                f"{folder} holds an adapter of {saved.path}, whose weights are not those of model.path={self.path} "
                f"(digest {saved.digest[:12]} and {self.digest[:12]}); give the model that the adapter was trained on"
            )


def weights_digest(hf: torch.nn.Module) -> str:
    """Return a digest of all parameters of a model on CPU."""
    found = xxhash.xxh3_128()
    for name, parameter in hf.named_parameters():
        found.update(name.encode())
        found.update(parameter.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
