"""`uec export` of a LoRA run: refused without --merge, and a whole model with it."""

import shutil

import torch
from transformers import AutoModelForCausalLM

from tests.support.run_folders import make_run
from tests.uec.models.test_lora import logprobs, made, save
from uec.commands.cli import main
from uec.models.policy import Policy


def test_the_adapter_of_a_run_is_merged_into_a_model_with_equal_logprobs(project, tmp_path, make_config, capsys, monkeypatch):
    monkeypatch.chdir(project)
    settings = ("run.name=first", "lora.enabled=true", "lora.rank=4", "lora.alpha=6")
    run = make_run(tmp_path / "first", make_config(*settings), project / "assets/countdown")
    for hf in sorted((run / "checkpoints").glob("*/hf")):
        shutil.rmtree(hf)
        save(made(), hf)
    assert main(["export", str(run), "--to", str(tmp_path / "whole")]) == 2
    assert "add --merge" in capsys.readouterr().err
    assert main(["export", str(run), "--merge", "--to", str(tmp_path / "whole")]) == 0
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    assert (logprobs(Policy(whole, 1, 111)) - logprobs(made().policy)).abs().max() < 1e-4
    assert (logprobs(Policy(whole, 1, 111)) - logprobs(made(noise=False).policy)).abs().max() > 1e-2
