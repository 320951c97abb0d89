"""Download a model from the hub, once, before actors start."""

from pathlib import Path

from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.pretrained import check_weights_in
from uec.system.hub import why_unreachable

FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""Weights, config, tokenizer and processor."""

NOT_READ = ("original/*", "consolidated*")
"""The same weights in other layouts."""


def download_model(model: ModelConfig) -> bool:
    """Download the files of a hub name into this machine's cache, with progress bars. Returns whether the hub was asked.

    Checks the weights, as `resolve_model` does for a folder, which has its files already, and for the cache, which alone counts without
    a hub. Raises BadInput.
    """
    if Path(model.path).expanduser().is_dir() or why_unreachable() is not None:
        return False
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    files = [*FILES, "*.py"] if model.trust_remote_code else list(FILES)
    try:
        folder = snapshot_download(model.path, allow_patterns=files, ignore_patterns=list(NOT_READ))
    except (HfHubHTTPError, OSError) as error:
        raise BadInput(f"model.path: {model.path} could not be downloaded from the hub: {error}. Start again to continue it") from error
    check_weights_in(Path(folder), model)
    return True
