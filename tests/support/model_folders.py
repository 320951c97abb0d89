"""Folders of models without weights: an architecture's config.json beside a small tokenizer, which is all that a dry run asks for."""

import json
import shutil
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"
PROJECT = DATA.parent.parent
SMALL = PROJECT / "assets/geometry"


def model_folder(folder: Path, hub_name: str) -> Path:
    """The model of that name on the hub, so far as tests/data/models knows it, with the default image model's tokenizer and processor."""
    config = json.loads((DATA / "models" / f"{hub_name.rpartition('/')[2]}.json").read_text())
    ours = json.loads((SMALL / "config.json").read_text())
    config = {name: value for name, value in config.items() if not name.endswith("token_id")}
    config |= {name: value for name, value in ours.items() if name.endswith("token_id")}  # as this tokenizer has them
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        shutil.copyfile(SMALL / name, folder / name)
    return folder
