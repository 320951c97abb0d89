"""Folders of models without weights: an architecture's config.json beside a small tokenizer, which is all that a dry run asks for."""

import json
import shutil
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
PROJECT = DATA.parent.parent
CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def model_folder(folder: Path, hub_name: str) -> Path:
    """The model of that name on the hub, so far as tests/data/models knows it, with the tokenizer of one of the default models."""
    config = json.loads((DATA / "models" / f"{hub_name.rpartition('/')[2]}.json").read_text())
    small = PROJECT / "assets" / ("geometry" if "vision_config" in config else "countdown")
    ours = json.loads((small / "config.json").read_text())
    config |= {name: value for name, value in ours.items() if name.endswith("token_id")}  # what the tokenizer calls them
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        if (small / name).exists():
            shutil.copyfile(small / name, folder / name)
    if not (folder / "chat_template.jinja").exists():
        (folder / "chat_template.jinja").write_text(CHAT)
    return folder
