"""The cold start of the geometry task: processor, training, measurement and the shipped initial model."""

import io
import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from tests.support.cards import wording
from uec.config.schema import ModelConfig
from uec.models.pretrained import load_decoder, load_tokenizer
from uec.tasks.geometry import make as geometry
from uec.tasks.geometry.card import Provenance, write_card
from uec.tasks.geometry.data import KINDS, LEVELS, MAX_RESPONSE_TOKENS, RL, Problem, derive, draw, problems, write_solution
from uec.tasks.geometry.demonstrations import demonstrations, misread
from uec.tasks.geometry.measure import Metrics, judge, measure, swap_images
from uec.tasks.geometry.model import SPECIAL, VOCABULARY, WORDS, build_processor, build_tokenizer, new_model
from uec.tasks.geometry.recipe import Recipe, collate, prompt_text, solution_loss, train
from uec.tasks.geometry.shapes import CELL, GREY, WHITE
from uec.tasks.loop import sha256
from uec.tasks.sample import sample_batch

TINY = replace(Recipe(), steps=2, batch=4)
FOLDER = "assets/geometry"


@pytest.fixture(scope="module")
def processor():
    return build_processor()


@pytest.fixture(scope="module")
def shipped():
    """The committed model and processor."""
    folder = Path(__file__).resolve().parents[3] / FOLDER
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


def some(count: int, seed: int = 0) -> list[Problem]:
    return problems(seed, count, RL, avoid=set())


def test_a_question_and_a_quantitys_name_are_tokens_and_any_other_text_encodes() -> None:
    tokenizer = build_tokenizer()
    assert all(len(tokenizer(word).input_ids) == 1 for word in WORDS)
    assert len(tokenizer(r"w=6 h=8 w*h=48 cut w=2 h=5 w*h=10 diff=38 \boxed{38}").input_ids) == 21
    for text in ("Was ist 3²? 日本\n", "a b\tc", "12345"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert len(tokenizer("12345").input_ids) == 5
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL] == list(range(len(SPECIAL)))
    assert len(tokenizer) < VOCABULARY and (tokenizer.eos_token, tokenizer.padding_side) == ("<|im_end|>", "left")


def test_every_solution_fits_into_a_response_with_its_end_token() -> None:
    rng, tokenizer = random.Random(0), build_tokenizer()
    lengths = [len(tokenizer(draw(rng, kind, 3).solution).input_ids) + 1 for kind in KINDS for _ in range(200)]
    assert max(lengths) <= MAX_RESPONSE_TOKENS


def test_the_chat_template_places_images_and_takes_plain_text_and_system_messages(processor) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Find the area."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "w=1"}]},
        {"role": "user", "content": "Go on."},
    ]
    assert processor.apply_chat_template(chat, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Find the area.<|im_end|>\n"
        "<|im_start|>assistant\nw=1<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert not processor.apply_chat_template(chat).endswith("assistant\n")


def test_an_image_becomes_one_token_for_four_cells(processor) -> None:
    for side, tokens in ((84, 9), (112, 16), (140, 25), (300, 25), (20, 4)):
        batch = processor(text=[prompt_text(processor, "Find the area.")], images=[Image.new("RGB", (side, side))], return_tensors="pt")
        assert int((batch["input_ids"] == SPECIAL.index("<|image_pad|>")).sum()) == tokens


def test_a_batch_is_padded_on_the_left_and_only_solutions_count(processor) -> None:
    shown = [draw(random.Random(0), "rect_area", 1), draw(random.Random(0), "lshape", 3)]
    batch, is_solution_BT = collate(processor, shown)
    for ids, is_solution, mask, problem in zip(batch["input_ids"], is_solution_BT, batch["attention_mask"], shown, strict=True):
        assert processor.tokenizer.decode(ids[is_solution]) == f"{problem.solution}<|im_end|>"
        prompt = processor.tokenizer.decode(ids[~is_solution & mask.bool()])
        assert prompt.replace("<|image_pad|>", "") == prompt_text(processor, problem.question).replace("<|image_pad|>", "")
        assert mask.tolist() == sorted(mask.tolist())


def test_the_loss_is_the_mean_over_solution_tokens_and_training_lowers_it(processor) -> None:
    losses: list[float] = []
    train(replace(TINY, steps=12, warmup_steps=2), demonstrations(0, 0.2, set()), processor, lambda step, loss: losses.append(loss))
    torch.manual_seed(TINY.seed)
    model = new_model()
    total, count = 0.0, 0
    for problem in islice(demonstrations(0, 0.2, set()), TINY.batch):  # one by one, without padding
        batch, is_solution_BT = collate(processor, [problem])
        tokens = int(is_solution_BT.sum())
        total += solution_loss(model, batch, is_solution_BT).item() * tokens
        count += tokens
    assert losses[0] == pytest.approx(total / count, abs=1e-4)
    assert sum(losses[-3:]) / 3 < losses[0] - 1


def test_no_demonstration_shows_a_held_out_image() -> None:
    shown = {problem.key for problem in islice(demonstrations(0, 0.2, set()), 300)}
    again = {problem.key for problem in islice(demonstrations(0, 0.2, shown), 300)}
    assert len(shown) > 200 and not shown & again


def test_slips_misread_one_side_by_one_cell_in_the_stated_share_and_are_worked_out_rightly() -> None:
    plain, slipping = demonstrations(1, 0.0, set()), demonstrations(1, 0.2, set())
    assert [p.sides for p in islice(plain, 5)] == [p.sides for p in islice(demonstrations(1, 0.0, set()), 5)]
    slipped = 0
    for problem in islice(slipping, 1000):
        true = read_off(problem)
        if (problem.sides[0], problem.sides[1]) != true:
            slipped += 1
            assert abs(problem.sides[0] - true[0]) + abs(problem.sides[1] - true[1]) == 1
        assert problem.solution == write_solution(*derive(problem.kind, *problem.sides))
    # a fifth, minus slips in the missing cells (half of those of lshape and shaded, 28 %), within four standard errors of 1000 draws
    assert abs(slipped / 1000 - 0.2 * (1 - 0.5 * 2.4 / 8.6)) < 0.05


def read_off(problem: Problem) -> tuple[int, int]:
    """Return width and height of the shape, in cells, from the image."""
    pixels = np.asarray(problem.image)
    is_shape = ~((pixels == WHITE).all(-1) | (pixels == GREY).all(-1))
    rows, columns = np.nonzero(is_shape.any(1))[0], np.nonzero(is_shape.any(0))[0]
    return (columns[-1] - columns[0] + 1) // CELL, (rows[-1] - rows[0] + 1) // CELL


@given(st.integers(0, 2**32), st.sampled_from(KINDS), st.sampled_from(LEVELS))
def test_a_slip_leaves_a_possible_shape(seed: int, kind: str, level: int) -> None:
    rng = random.Random(seed)
    before = draw(rng, kind, level)
    after = misread(rng, before)
    assert sum(abs(a - b) for a, b in zip(before.sides, after.sides, strict=True)) == 1
    w, h, *missing = after.sides
    assert min(after.sides) >= 1 and after.answer >= 1
    assert all(part < whole for part, whole in zip(missing, (w, h), strict=False))
    assert kind != "tri_area" or 2 * after.answer == w * h


def test_the_learning_rate_warms_up_and_falls_as_half_a_cosine() -> None:
    recipe = replace(Recipe(), steps=1000, lr=1.0, warmup_steps=50, lowest_lr=0.1)
    assert recipe.lr_at(0) == pytest.approx(1 / 50)
    assert recipe.lr_at(500) == pytest.approx(0.55)
    assert recipe.lr_at(1000) == pytest.approx(0.1)


def test_sampling_continues_from_the_image_as_a_whole_forward_pass_does(shipped) -> None:
    model, processor = shipped
    chosen = [problem for problem in some(40) if problem.image.width == 84][:6]
    texts = [prompt_text(processor, "Find the area.")] * len(chosen)
    prompts = processor(text=texts, images=[problem.image for problem in chosen], return_tensors="pt")
    generator = torch.Generator().manual_seed(0)
    tokens_BT, entropy_BT, alive_BT = sample_batch(model, prompts, 8, 1.0, processor.tokenizer.eos_token_id, generator)
    whole = {**prompts, "input_ids": torch.cat([prompts["input_ids"], tokens_BT], 1)}
    whole["attention_mask"] = torch.ones_like(whole["input_ids"])
    whole["mm_token_type_ids"] = torch.cat([prompts["mm_token_type_ids"], torch.zeros_like(tokens_BT)], 1)
    with torch.no_grad():
        logprobs_BTV = model(**whole).logits[:, -tokens_BT.shape[1] - 1 : -1].log_softmax(-1)
    expected_BT = -(logprobs_BTV.exp() * logprobs_BTV).sum(-1)
    assert torch.allclose(entropy_BT[alive_BT], expected_BT[alive_BT], atol=1e-4)


def test_swapping_gives_each_problem_the_image_of_one_with_its_question_and_size() -> None:
    before = some(80)
    after = swap_images(before)
    assert [(p.kind, p.steps, p.image.size) for p in after] == [(p.kind, p.steps, p.image.size) for p in before]
    assert sorted(p.key for p in after) == sorted(p.key for p in before)
    assert sum(a.key == b.key for a, b in zip(before, after, strict=True)) <= 4  # the only one of its question and size


def test_a_two_step_cold_start_makes_equal_bytes_and_a_folder_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in (("HELD_OUT_PROBLEMS", 5), ("DEV_PROBLEMS", 4), ("TRAIN_PROBLEMS", 6)):
        monkeypatch.setattr(geometry, name, small)
    for name in ("a", "b"):
        output = io.StringIO()
        geometry.make(tmp_path / name, TINY, Console(file=output, width=100))
        assert sha256(tmp_path / name / "model.safetensors") in output.getvalue()
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    same = [path for path in files if path.name != "README.md"]  # which names the folder and the seconds
    assert {path.name for path in same} >= {"model.safetensors", "tokenizer.json", "processor_config.json", "train.parquet", "eval.parquet"}
    assert [path for path in same if sha256(tmp_path / "a" / path) != sha256(tmp_path / "b" / path)] == []
    geometry.make(tmp_path / "c", replace(TINY, seed=1), Console(file=io.StringIO()))
    assert sha256(tmp_path / "c" / "model.safetensors") != sha256(tmp_path / "a" / "model.safetensors")

    card = (tmp_path / "a" / "README.md").read_text()
    assert sha256(tmp_path / "a" / "model.safetensors") in card and "--steps 2 --seed 0" in card and "nan" not in card
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "a")
    assert 1.1e6 < model.num_parameters() < 1.13e6
    assert pq.read_table(tmp_path / "a/data/train.parquet").num_rows == 6


def test_the_shipped_model_is_the_one_that_its_card_describes(project: Path) -> None:
    folder = project / FOLDER
    assert sha256(folder / "model.safetensors") in (folder / "README.md").read_text()
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 8e6
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")  # tied
    rows = pq.read_table(folder / "data/eval.parquet").to_pylist()
    made = problems(geometry.HELD_OUT_SEED, geometry.HELD_OUT_PROBLEMS, RL, avoid=set())
    assert [row["solution"] for row in rows] == [problem.solution for problem in made]


def test_the_shipped_card_has_the_wording_of_the_code(project: Path) -> None:
    values = dict.fromkeys((1, 8, 16), 0.5)
    metrics = Metrics(512, 16, values, dict.fromkeys(KINDS, values), 0.5, dict.fromkeys(KINDS, 0.5), 0.5, 0.5, 0.5, 0.5)
    command = "python -m uec.tasks.geometry.make --out assets/geometry --steps 450 --seed 0"
    made = write_card(Recipe(), Provenance(command, 183.0, 1_120_000, 280_000, 365, "0" * 64, 2048, 512), metrics)
    assert wording((project / FOLDER / "README.md").read_text()) == wording(made)


def test_every_way_of_loading_gives_the_same_tokens(project: Path, shipped) -> None:
    folder = project / FOLDER
    cfg = ModelConfig(path=str(folder))
    ways = [
        AutoTokenizer.from_pretrained(folder),
        PreTrainedTokenizerFast.from_pretrained(folder),
        shipped[1].tokenizer,
        load_tokenizer(cfg),
    ]
    text = prompt_text(shipped[1], "Find the shaded area.") + r"w=16 h=8 w*h=128 \boxed{128} – sonst nichts<|im_end|>"
    ids = build_tokenizer()(text).input_ids
    assert [way(text).input_ids for way in ways] == [ids] * 4
    assert {way.decode(ids) for way in ways} == {text} and len({way.chat_template for way in ways}) == 1
    assert load_decoder(cfg)([torch.tensor(ids).numpy()]) == [text.replace("<|im_end|>", "")]


def test_the_shipped_model_answers_from_the_image(shipped) -> None:
    model, processor = shipped
    torch.set_num_threads(1)
    chosen = problems(geometry.TRAIN_SEED, 120, RL, avoid=set())
    matching = judge(model, processor, chosen, 1, 1e-4, 0)
    swapped = judge(model, processor, swap_images(chosen), 1, 1e-4, 0)
    assert 0.35 < sum(matching.derived) / 120 < 0.75 and sum(matching.answered) >= sum(matching.derived)
    assert sum(swapped.derived) / 120 < 0.08 and sum(swapped.answered) / 120 < 0.2


def test_metrics_are_pass_at_k_of_the_graders_verdicts(shipped) -> None:
    easy = [draw(random.Random(seed), "rect_area", 1) for seed in range(4)]
    metrics = measure(*shipped, easy, samples=8, ks=(1, 8))
    assert metrics.pass_at[8] > 0.9 and metrics.pass_at[1] > 0.4 and metrics.pass_at_by_kind == {"rect_area": metrics.pass_at}
    assert metrics.answer >= metrics.pass_at[1] and metrics.difficult == 1 - metrics.pass_at[8] and 0 < metrics.entropy < 1
