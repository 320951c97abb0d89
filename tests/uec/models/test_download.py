"""The download of a model from the hub before actors start, with a stand-in for the hub's client."""

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models import download
from uec.models.download import download_model

DOWNLOADED = Path(__file__).resolve().parents[3] / "assets/countdown"
FILES_OF_A_REPOSITORY = ["config.json", "tokenizer.json", "vocab.txt", "chat_template.jinja", "model-00001-of-00002.safetensors"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Return what the hub's client is asked for; the hub answers."""
    calls: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(download, "why_unreachable", lambda: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **patterns: calls.append((name, patterns)) or str(DOWNLOADED))
    return calls


def test_a_hub_name_is_downloaded_without_pickled_weights(asked: list[tuple[str, dict[str, Any]]]) -> None:
    assert download_model(ModelConfig(path="Qwen/Qwen2.5-0.5B"))
    [(name, patterns)] = asked
    names = [*FILES_OF_A_REPOSITORY, "pytorch_model.bin", "original/model.safetensors", "modeling.py", "README.md"]
    wanted = huggingface_hub.utils.filter_repo_objects(names, **patterns)
    assert (name, list(wanted)) == ("Qwen/Qwen2.5-0.5B", FILES_OF_A_REPOSITORY)


def test_code_is_downloaded_only_if_it_is_trusted(asked: list[tuple[str, dict[str, Any]]]) -> None:
    download_model(ModelConfig(path="some/model", trust_remote_code=True))
    assert "*.py" in asked[0][1]["allow_patterns"]


def test_a_folder_and_an_unreachable_hub_need_no_download(
    asked: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not download_model(ModelConfig(path="assets/countdown"))
    monkeypatch.setattr(download, "why_unreachable", lambda: "HF_HUB_OFFLINE is set")
    assert not download_model(ModelConfig(path="Qwen/Qwen2.5-0.5B"))
    assert asked == []


def test_a_download_that_breaks_is_bad_input(monkeypatch: pytest.MonkeyPatch, asked: list[tuple[str, dict[str, Any]]]) -> None:
    def breaks(name: str, **patterns: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", breaks)
    with pytest.raises(BadInput, match="model.path: some/model could not be downloaded from the hub: No space left on device"):
        download_model(ModelConfig(path="some/model"))


def test_downloaded_weights_are_checked(
    asked: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(DOWNLOADED / "config.json", tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **patterns: str(tmp_path))
    with pytest.raises(BadInput, match="has no weights as .safetensors"):
        download_model(ModelConfig(path="some/model"))
