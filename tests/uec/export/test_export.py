"""`uec export`: the content of the folder, and the errors."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from tests.support.run_folders import make_run
from uec.commands.cli import main


@pytest.fixture
def run(tmp_path, make_config, project, monkeypatch) -> Path:
    """Make a run whose config names files of this machine."""
    monkeypatch.chdir(project)
    reward = tmp_path / "secret-folder" / "mine.py"
    reward.parent.mkdir()
    reward.write_text("def score(response: str, answer: str, **row) -> float:\n    return 0.0\n")
    cfg = make_config(
        "run.name=r | x", f"reward.fn={reward}:score", f"data.train={tmp_path}/secret-folder/train.jsonl", "rollout.temperature=0.9"
    )  # fmt: skip
    return make_run(tmp_path / "runs" / "first", cfg, project / "assets/countdown")


def exported(run: Path, to: Path, *more: str) -> Path:
    assert main(["export", str(run), "--to", str(to), *more]) == 0
    return to


def complaint(capsys, *arguments: str) -> str:
    assert main(["export", *arguments]) == 2
    return capsys.readouterr().err


def test_plain_transformers_loads_the_export_with_the_checkpoints_logits(run, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = exported(run, tmp_path / "out")
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        theirs, ours = (
            AutoModelForCausalLM.from_pretrained(path)(ids).logits for path in (folder, run / "checkpoints/step_000003/hf")
        )
        other = AutoModelForCausalLM.from_pretrained(run / "checkpoints/step_000002/hf")(ids).logits
    assert torch.equal(theirs, ours) and not torch.equal(theirs, other)


def test_step_chooses_the_checkpoint(run, tmp_path):
    folder = exported(run, tmp_path / "out", "--step", "2")
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (run / "checkpoints/step_000002/hf" / weights).read_bytes()
    assert exported(run / "checkpoints/step_000002", tmp_path / "same").joinpath(weights).read_bytes() == (folder / weights).read_bytes()


def test_the_generation_config_samples_and_ends_as_in_training(run, tmp_path):
    from transformers import GenerationConfig

    found = GenerationConfig.from_pretrained(exported(run, tmp_path / "out"))
    assert (found.do_sample, found.temperature, found.top_p, found.top_k, found.eos_token_id) == (True, 0.9, 1.0, 0, 2)
    assert found.max_new_tokens is None


def test_the_tokenizer_for_vllm_decodes_as_in_training(run, tmp_path):
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = exported(run, tmp_path / "out")
    ids = list(range(100))
    trained = PreTrainedTokenizerFast.from_pretrained(run / "checkpoints/step_000003/hf").decode(ids)
    assert AutoTokenizer.from_pretrained(folder / "tokenizer").decode(ids) == trained
    assert AutoTokenizer.from_pretrained(folder).decode(ids) != trained  # the reason for the folder `tokenizer`
    assert "vllm serve DIR --tokenizer DIR/tokenizer" in (folder / "README.md").read_text()


def test_the_card_has_metrics_and_settings_and_no_folder_of_this_machine(run, tmp_path):
    folder = exported(run, tmp_path / "out", "--step", "3")
    card = (folder / "README.md").read_text()
    assert "| pass@1 | 0.250 [0.200, 0.300] | 0.375 [0.300, 0.400] |" in card
    assert "| entropy, nats | 0.500 | 0.250 |" in card
    assert "| held-out | start | step 2 |" in card  # the last evaluation up to step 3
    assert "3 steps, 3.0k response tokens generated." in card
    assert "| `rollout.temperature` | `0.9` |" in card and "| `reward.fn` | `mine.py:score` |" in card
    assert "| train | `train.jsonl` |" in card
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".md"):
            assert "secret-folder" not in path.read_text() and str(tmp_path) not in path.read_text(), path


def test_the_cards_metadata_is_yaml_that_the_hub_reads(run, tmp_path):
    card = (exported(run, tmp_path / "out") / "README.md").read_text()
    data = yaml.safe_load(card.split("---\n")[1])
    assert data == {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["uec-rl", "reinforcement-learning", "uec"]}


def test_a_hub_name_is_the_cards_base_model(tmp_path, make_config, project):
    from uec.export.card import model_card, read_record

    card = model_card(make_config("model.path=Qwen/Qwen2.5-0.5B"), "x", 3, read_record(tmp_path, 3), False, False)
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == "Qwen/Qwen2.5-0.5B"
    assert "no metrics were kept" in card


def test_an_existing_folder_is_kept_without_overwrite(run, tmp_path, capsys):
    place = tmp_path / "out"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    assert "exists and is not empty" in complaint(capsys, str(run), "--to", str(place))
    assert "is no model" in complaint(capsys, str(run), "--to", str(place), "--overwrite")
    assert (place / "mine.txt").read_text() == "mine"
    exported(run, tmp_path / "model")
    (tmp_path / "model" / "stale.txt").write_text("of before")
    exported(run, tmp_path / "model", "--overwrite")
    assert not (tmp_path / "model" / "stale.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_run_is_never_replaced_by_its_export(run, capsys):
    for place in (run, run.parent, run / "checkpoints/step_000003/hf"):
        assert main(["export", str(run), "--to", str(place), "--overwrite"]) == 2
        assert "the run itself" in capsys.readouterr().err
    assert "among the run's checkpoints" in complaint(capsys, str(run), "--to", str(run / "checkpoints/x"))
    assert json.loads((run / "checkpoints/step_000003/driver.json").read_text()) == {}


def test_an_argument_that_is_no_run_is_refused_with_advice(run, tmp_path, project, capsys):
    assert "a model folder needs no export" in complaint(capsys, str(project / "assets/countdown"), "--to", str(tmp_path / "o"))
    assert "has no checkpoint of step 7; there are step_000002, step_000003" in complaint(
        capsys, str(run), "--to", str(tmp_path / "o"), "--step", "7"
    )
    assert not (tmp_path / "o").exists()
