"""Folders of models without weights: an architecture's config.json and a small tokenizer, which are sufficient for a dry run."""

import json
import shutil
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"
PROJECT = DATA.parent.parent
SMALL = PROJECT / "assets/geometry"


def model_folder(folder: Path, hub_name: str) -> Path:
    """Make a folder with the config.json of a hub model (tests/data/models) and the default image model's tokenizer and processor."""
    config = json.loads((DATA / "models" / f"{hub_name.rpartition('/')[2]}.json").read_text())
    ours = json.loads((SMALL / "config.json").read_text())
    config = {name: value for name, value in config.items() if not name.endswith("token_id")}
    config |= {name: value for name, value in ours.items() if name.endswith("token_id")}  # the ids of this tokenizer
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        shutil.copyfile(SMALL / name, folder / name)
    return folder
