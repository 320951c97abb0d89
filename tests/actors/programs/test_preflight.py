"""What every program checks before an actor starts."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from actors.programs.preflight import check_resume, preflight
from tests.support import tiny_text
from uec.checkpoint_files import FORMAT, list_files
from uec.config.schema import Config
from uec.data.dataset import Dataset, digest
from uec.data.prompt_order import PromptOrder
from uec.errors import BadInput
from uec.run_folder import RunFolder
from uec.types import Prompt


def data(answer: str) -> Dataset:
    return Dataset([Prompt(0, "x", np.array([1], np.int32), answer, {})], [], 0, 0)


def test_a_checkpoint_of_other_rows_is_refused_before_the_run_folder_is_touched(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    order = PromptOrder(1, 0, True, digest(data("a").train)).state()
    checkpoint = tmp_path / "run/checkpoints/step_000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "driver.json").write_text(json.dumps({"format": FORMAT, "driver": {"order": order}}))
    list_files(checkpoint)
    cfg, folder = make_config("run.resume=auto"), RunFolder(tmp_path / "run", None)
    check_resume(cfg, folder, data("a"))
    with pytest.raises(BadInput, match="made with other training prompts or answers than these 1; resume with the same data"):
        check_resume(cfg, folder, data("b"))
    with pytest.raises(BadInput, match="made with other training prompts"):
        check_resume(make_config(f"run.resume={checkpoint}"), RunFolder(tmp_path / "other", checkpoint), data("b"))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoints"]

    check_resume(make_config("run.resume=auto", "run.overwrite=true"), folder, data("b"))  # the checkpoint is about to be deleted
    check_resume(make_config("run.resume=never"), folder, data("b"))
    check_resume(cfg, RunFolder(tmp_path / "new", None), data("b"))


@pytest.fixture
def on_tiny_model(make_config: Callable[..., Config], tmp_path: Path) -> Config:
    """A config whose model has another end of text than its chat template's turns."""
    folder = tiny_text.build("mistral", tmp_path / "model", eos_token_id=256)
    tiny_text.tokenizer(eos="<|endoftext|>").save_pretrained(folder)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "2+2", "answer": "4"}) + "\n")
    cfg = make_config(f"model.path={folder}", "data.chat=true", "data.template=null", "data.max_prompt_tokens=100", "rollout.max_tokens=16")
    cfg.data.train, cfg.data.eval, cfg.reward.fn = str(tmp_path / "rows.jsonl"), None, "exact"
    return cfg


def test_the_stop_token_of_the_chat_template_is_found_and_the_models_rows_are_noted(on_tiny_model: Config) -> None:
    dataset = preflight(on_tiny_model)
    assert on_tiny_model.rollout.stop_tokens == [258]
    padded, ends = dataset.notes
    assert padded.startswith("MistralForCausalLM has sliding windows of 32 tokens") and ends.startswith("responses end at '<|im_end|>'")


def test_weights_are_checked_where_they_are_and_only_a_dry_run_does_without(on_tiny_model: Config) -> None:
    weights = Path(on_tiny_model.model.path) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    for needed in (True, False):
        with pytest.raises(BadInput, match="is cut off"):
            preflight(on_tiny_model, weights=needed)
    weights.unlink()
    assert len(preflight(on_tiny_model, weights=False).train) == 1
    with pytest.raises(BadInput, match="has no weights as .safetensors"):
        preflight(on_tiny_model)


def test_a_generation_config_and_a_tokenizer_that_would_end_the_run_later_are_refused(on_tiny_model: Config) -> None:
    folder = Path(on_tiny_model.model.path)
    (folder / "generation_config.json").write_text('{"max_new_tokens": 0}')
    with pytest.raises(BadInput, match="the generation_config.json of .* cannot be used"):
        preflight(on_tiny_model)
    (folder / "generation_config.json").unlink()
    tiny_text.tokenizer(special=(*tiny_text.SPECIAL, *(f"<{i}>" for i in range(9)))).save_pretrained(folder)
    with pytest.raises(BadInput, match="has token ids up to 267, and the embedding has 264 rows"):  # 256 + 3 + 9 tokens
        preflight(on_tiny_model)
