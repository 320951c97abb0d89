"""The cold start of Countdown: demonstrations, tokenizer, training, measurement and the shipped initial model."""

import hashlib
import io
import json
import math
import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from tests.support.cards import wording
from uec.models.pretrained import load_tokenizer
from uec.tasks import sample
from uec.tasks.countdown import make as countdown
from uec.tasks.countdown.card import Provenance, write_card
from uec.tasks.countdown.data import Problem, problems, reachable_by_plus_minus
from uec.tasks.countdown.demonstrations import demonstrations
from uec.tasks.countdown.measure import Metrics, measure
from uec.tasks.countdown.recipe import Phase, Recipe, collate, new_model, train
from uec.tasks.countdown.reward import score
from uec.tasks.countdown.tokenizer import WORDS, build

TINY = replace(Recipe(), steps=3, batch=4, warmup_steps=2)


def parse(prompt: str) -> tuple[list[int], int]:
    numbers, _, rest = prompt.partition(" : ")
    return [int(number) for number in numbers.split()], int(rest.split()[0])


def test_demonstrations_show_the_rare_mode_mostly_under_a_hint() -> None:
    shown = list(islice(demonstrations(0, lambda _: 0.1, avoid=set()), 6000))
    hinted = [(p, r) for p, r in shown if p.endswith("?")]
    drills = [(p, r) for p, r in shown if ":" not in p]
    unhinted = [(p, r) for p, r in shown if ":" in p and not p.endswith("?")]
    needing = [(p, r) for p, r in unhinted if parse(p)[1] not in reachable_by_plus_minus(tuple(parse(p)[0]))]
    opened = [(p, r) for p, r in needing if r.startswith("?")]
    easy = [pair for pair in unhinted if pair not in needing]
    missing = [(p, r) for p, r in easy if r.startswith("?")]

    # four standard errors of 6000 draws are at most 0.023
    assert abs(len(hinted) / 6000 - 0.25) < 0.023 and abs(len(drills) / 6000 - 0.08) < 0.014 and abs(len(needing) / 6000 - 0.20) < 0.021
    assert abs(len(opened) / len(needing) - 0.1) < 0.035 and abs(len(missing) / len(easy) - 0.1) < 0.023
    for prompt, response in hinted + opened + [pair for pair in easy if pair not in missing]:
        numbers, target = parse(prompt)
        assert score(response, str(target), numbers=numbers)["accuracy"] == 1, (prompt, response)
    for prompt, response in missing:  # each step is right, and the target is missed
        numbers, target = parse(prompt)
        assert int(response.split()[-1]) != target
        assert score(response, response.split()[-1], numbers=numbers)["accuracy"] == 1, (prompt, response)
    assert not any("*" in response for _, response in unhinted if not response.startswith("?"))


def test_failing_attempts_are_right_in_every_step_but_miss_the_target() -> None:
    shown = islice(demonstrations(1, lambda _: 0.0, avoid=set()), 1500)
    needing = [(p, r) for p, r in shown if ":" in p and "?" not in p and parse(p)[1] not in reachable_by_plus_minus(tuple(parse(p)[0]))]
    assert len(needing) > 200
    for prompt, response in needing:
        numbers, target = parse(prompt)
        reached = response.split()[-1]
        assert int(reached) != target and score(response, reached, numbers=numbers)["accuracy"] == 1


def test_no_demonstration_shows_a_held_out_problem() -> None:
    avoid = {problem.key for problem in problems(3, 800, avoid=set())}
    for prompt, _ in islice(demonstrations(2, lambda _: 0.1, avoid), 4000):
        if ":" in prompt:
            numbers, target = parse(prompt)
            assert (tuple(sorted(numbers)), target) not in avoid


def test_the_tokenizer_knows_111_words_and_survives_saving(tmp_path: Path) -> None:
    countdown.save(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == len(WORDS) == 111
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    ids = tokenizer("10 9 : 99 =").input_ids
    assert [WORDS[i] for i in ids] == ["<bos>", "10", "9", ":", "99", "="]
    assert tokenizer.decode([*ids, 2, 0], skip_special_tokens=True) == "10 9 : 99 ="


def test_a_batch_is_padded_on_the_right_and_only_responses_count() -> None:
    ids_BT, is_response_BT = collate([("7 * 8 =", "56"), ("1 2 : 3 =", "1 + 2 = 3")], build())
    read = [[WORDS[i] for i in row] for row in ids_BT.tolist()]
    assert read[0] == ["<bos>", "7", "*", "8", "=", "56", "<eos>"] + ["<pad>"] * 5
    assert read[1] == ["<bos>", "1", "2", ":", "3", "=", "1", "+", "2", "=", "3", "<eos>"]
    assert is_response_BT.tolist() == [[False] * 5 + [True] * 2 + [False] * 5, [False] * 6 + [True] * 6]


def test_each_phase_has_its_warm_up_its_decay_and_its_share_of_the_rare_mode() -> None:
    phases = (Phase(0.8, 1.0, 0.01), Phase(0.2, 0.5, 0.3))
    recipe = replace(Recipe(), steps=1000, lr=1.0, warmup_steps=50, lowest_lr=0.02, phases=phases)
    assert recipe.lr_at(0) == pytest.approx(1 / 50)
    assert recipe.lr_at(400) == pytest.approx(0.5)
    assert recipe.lr_at(799) == pytest.approx(0.02)
    assert recipe.lr_at(800) == pytest.approx(0.5 / 50)
    assert recipe.lr_at(900) == pytest.approx(0.25)
    assert [recipe.rare_share_at(step) for step in (0, 799, 800, 999)] == [0.01, 0.01, 0.3, 0.3]


def test_the_loss_is_the_mean_over_response_tokens_and_training_lowers_it() -> None:
    torch.manual_seed(0)
    expected = _first_loss(new_model())
    losses: list[float] = []
    train(replace(TINY, steps=30, lr=2e-3), demonstrations(0, lambda _: 0.1, set()), build(), lambda step, loss: losses.append(loss))
    assert losses[0] == pytest.approx(expected, abs=1e-4)
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5


def _first_loss(model: Qwen2ForCausalLM) -> float:
    """Return the loss of the first batch, computed row by row, without padding."""
    tokenizer, total, count = build(), 0.0, 0
    for prompt, response in islice(demonstrations(0, lambda _: 0.1, set()), TINY.batch):
        given = tokenizer(prompt).input_ids
        ids = [*given, *tokenizer(response, add_special_tokens=False).input_ids, 2]
        logprobs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        for position in range(len(given), len(ids)):
            total -= logprobs[position - 1, ids[position]].item()
            count += 1
    return total / count


def test_sampling_follows_the_models_distribution_and_reports_its_true_entropy() -> None:
    torch.manual_seed(0)
    model = new_model().eval()
    prompts = [[1, 14, 15], [1, 14], [1, 16, 17]]
    responses, entropy = sample.sample(model, prompts, n=3, max_tokens=6, temperature=1.0, seed=0)
    total, count = 0.0, 0
    for prompt, group in zip(prompts, responses, strict=True):
        assert len(group) == 3
        for response in group:
            ids = prompt + response
            logprobs = model(input_ids=torch.tensor([ids])).logits[0, len(prompt) - 1 :].log_softmax(-1)
            steps = min(len(response) + 1, 6)  # the end-of-text token was sampled, too
            total -= (logprobs[:steps].exp() * logprobs[:steps]).sum().item()
            count += steps
    assert entropy == pytest.approx(total / count, abs=1e-4)
    # near T = 0 each prompt gets its most likely token
    cold, _ = sample.sample(model, prompts, n=2, max_tokens=1, temperature=1e-4, seed=0)
    for prompt, group in zip(prompts, cold, strict=True):
        best = int(model(input_ids=torch.tensor([prompt])).logits[0, -1].argmax())
        assert group == [[best] if best != 2 else []] * 2


def test_a_response_ends_with_its_end_of_text_token() -> None:
    model = new_model().eval()
    with torch.no_grad():
        model.model.norm.weight.zero_()  # all logits 0: a uniform policy
    responses, entropy = sample.sample(model, [[1, 14]], n=400, max_tokens=20, temperature=1.0, seed=0)
    assert entropy == pytest.approx(math.log(111), abs=1e-4)
    lengths = [len(response) for response in responses[0]]
    assert not any(2 in response for response in responses[0])
    # geometric: P(length = 20) = (110/111)^20 = 0.834, with a standard error of 0.019
    assert abs(sum(length == 20 for length in lengths) / 400 - 0.834) < 0.075


class Oracle:
    """Replaces `sample`: returns right responses with a given probability."""

    def __init__(self, right: float) -> None:
        self.right = right

    def __call__(self, model, prompts, n, max_tokens, temperature, seed):  # noqa: ANN001, ANN204
        rng, tokenizer = random.Random(0), build()
        texts = [["1 + 2 = 3" if rng.random() < self.right else "2 - 1 = 1" for _ in range(n)] for _ in prompts]
        return [[tokenizer(text, add_special_tokens=False).input_ids for text in group] for group in texts], 0.25


def test_metrics_are_pass_at_k_of_the_graders_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [Problem((1, 2), 3, "pm3"), Problem((2, 1), 3, "mul3")]
    monkeypatch.setattr("uec.tasks.countdown.measure.sample", Oracle(1.0))
    all_right = measure(new_model().eval(), build(), known, samples=8, ks=(1, 8))
    assert all_right.pass_at == {1: 1.0, 8: 1.0} and all_right.difficult == 0 and all_right.entropy == 0.25
    monkeypatch.setattr("uec.tasks.countdown.measure.sample", Oracle(0.0))
    none_right = measure(new_model().eval(), build(), known, samples=8, ks=(1, 8))
    assert none_right.pass_at_by_kind == {"mul3": {1: 0.0, 8: 0.0}, "pm3": {1: 0.0, 8: 0.0}} and none_right.difficult == 1
    assert none_right.mode_success == {1.0: 0.0, 1.2: 0.0}


def test_the_mode_probability_is_that_of_a_uniform_policy_at_any_temperature() -> None:
    model = new_model().eval()
    with torch.no_grad():
        model.model.norm.weight.zero_()
    metrics = measure(model, build(), [Problem((3, 8, 7), 45, "mul3")], samples=8, ks=(1,))
    assert metrics.mode == pytest.approx({1.0: 1 / 111, 1.2: 1 / 111})


def test_the_same_command_makes_the_same_weights_and_a_folder_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(countdown, "DEV_PROBLEMS", 6)
    digests = []
    for name in ("a", "b"):
        output = io.StringIO()
        countdown.make(tmp_path / name, TINY, Console(file=output, width=100))
        digests.append(hashlib.sha256((tmp_path / name / "model.safetensors").read_bytes()).hexdigest())
        assert digests[-1] in output.getvalue()
    assert digests[0] == digests[1]
    countdown.make(tmp_path / "c", replace(TINY, seed=1), Console(file=io.StringIO()))
    assert hashlib.sha256((tmp_path / "c" / "model.safetensors").read_bytes()).hexdigest() != digests[0]

    card = (tmp_path / "a" / "README.md").read_text()
    assert digests[0] in card and "license: apache-2.0" in card and "--steps 3 --seed 0" in card and "nan" not in card
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path / "a"), AutoTokenizer.from_pretrained(tmp_path / "a")
    assert model.config.model_type == "qwen2" and 0.79e6 < model.num_parameters() < 0.81e6
    out = model.generate(**tokenizer("3 8 7 : 45 =", return_tensors="pt"), max_new_tokens=4, do_sample=False)
    assert out.shape[1] > 7


def test_the_shipped_model_is_the_one_that_its_card_describes(project: Path, make_config) -> None:
    folder = project / "assets/countdown"
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() in (folder / "README.md").read_text()
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 8e6
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")  # tied
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is True
    cfg = make_config()
    cfg.model.path = str(folder)
    assert len(load_tokenizer(cfg.model)) == 111


def test_the_shipped_card_has_the_wording_of_the_code(project: Path) -> None:
    values = dict.fromkeys((1, 8, 16), 0.5)
    modes = dict.fromkeys((1.0, 1.2), 0.5)
    metrics = Metrics(256, 32, values, dict.fromkeys(("mul3", "pm3", "pm4"), values), 0.5, 0.5, modes, modes)
    command = "python -m uec.tasks.countdown.make --out assets/countdown --steps 1450 --seed 0"
    made = write_card(Recipe(), Provenance(command, 268.0, 800_000, "0" * 64, 2048, 512), metrics)
    assert wording((project / "assets/countdown/README.md").read_text()) == wording(made)


def test_the_shipped_model_solves_easy_problems_and_seldom_multiplies(project: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(project / "assets/countdown").eval()
    metrics = measure(model, build(), problems(countdown.TRAIN_SEED, 60, avoid=set()), samples=8, ks=(1, 8))
    assert 0.2 < metrics.pass_at[1] < 0.45
    assert 0.05 < metrics.mode[1.0] < 0.14 and metrics.pass_at_by_kind["mul3"][1] < 0.08
