"""A vision-language model's processor: it gives the image tokens and features of plain transformers."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from transformers import AutoProcessor

from tests.support import tiny_vlm
from uec.config.schema import Config, ImageConfig, ModelConfig
from uec.data.image_file import open_image
from uec.data.prompts import load_dataset
from uec.errors import BadInput, RunFailed
from uec.models.pretrained import load_tokenizer
from uec.models.processor import Processor, load_processor
from uec.types import Prompt

LIMITS = ImageConfig()
KINDS = ("RGB", "RGBA", "P", "L", "1", "exif")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a family to the folder of its tiny model."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = tiny_vlm.build(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder


@pytest.fixture
def copy(folders: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies a model's folder, so that a test may damage it."""
    return lambda family: Path(shutil.copytree(folders(family), tmp_path / family))


def load(folder: Path, limits: ImageConfig = LIMITS) -> Processor:
    model = ModelConfig(path=str(folder))
    processor = load_processor(model, limits, load_tokenizer(model))
    assert processor is not None
    return processor


def complaint(action: Callable[[], Any]) -> str:
    with pytest.raises(BadInput) as raised:
        action()
    return str(raised.value)


def random_image(rng: random.Random, kind: str) -> Image.Image:
    """Return an image of a random size; some have one pixel, some the greatest length that processors accept."""
    size = rng.choice([(rng.randint(1, 200), rng.randint(1, 200)), (rng.randint(1, 60), rng.randint(1, 60)), (1, 1), (1, 190), (380, 2)])
    noise = np.frombuffer(rng.randbytes(size[0] * size[1] * 3), np.uint8).reshape(size[1], size[0], 3)
    image = Image.fromarray(noise)
    return image if kind == "exif" else image.convert(kind)


def write_rows(folder: Path, per_prompt: list[int], seed: int = 0) -> tuple[list[dict[str, Any]], list[list[Image.Image]]]:
    """Return rows with the given numbers of images, of all kinds, and the upright images for transformers."""
    rng = random.Random(seed)
    rows, upright = [], []
    for number, count in enumerate(per_prompt):
        names, images = [], []
        for i in range(count):
            kind = KINDS[(number + i) % len(KINDS)]
            image = random_image(rng, kind)
            exif = image.getexif()
            if kind == "exif":
                exif[0x0112] = rng.choice([3, 6, 8])
            names.append(f"{number}_{i}.png")
            image.save(folder / names[-1], exif=exif)
            with Image.open(folder / names[-1]) as saved:
                images.append(ImageOps.exif_transpose(saved).copy())
        rows.append({"prompt": f"Find the area of {number} \\boxed{{}}. ", "answer": "1", "images": names})
        upright.append(images)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows, upright


@pytest.fixture
def cfg(make_config: Callable[..., Config], tmp_path: Path) -> Config:
    cfg = make_config("data.chat=true", "data.max_prompt_tokens=100000")
    cfg.data.train, cfg.data.eval = str(tmp_path / "train.jsonl"), None
    return cfg


# --- the tokens of images


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize("family", tiny_vlm.FAMILIES)
def test_a_prompts_tokens_are_those_of_the_plain_processor(
    family: str, chat: bool, folders: Callable[[str], Path], cfg: Config, tmp_path: Path
) -> None:
    rows, upright = write_rows(tmp_path, [1, 2, 3, 0, 6] * 16 + [8])  # 200 images
    cfg.data.chat = chat
    processor = load(folders(family))
    prompts = load_dataset(cfg, processor.tokenizer, processor).train
    plain = AutoProcessor.from_pretrained(folders(family))
    assert len(prompts) == len(rows)
    for row, images, prompt in zip(rows, upright, prompts, strict=True):
        parts = [{"type": "image"}] * len(images) + [{"type": "text", "text": row["prompt"]}]
        text = plain.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
        if not chat:
            mark = "<|vision_start|><|image_pad|><|vision_end|>" if family in tiny_vlm.QWEN else plain.image_token
            text = mark * len(images) + row["prompt"]
        expected = plain(text=[text], images=images or None)["input_ids"][0]
        assert prompt.tokens.tolist() == list(expected)
        assert prompt.text == text and len(prompt.images) == len(prompt.spans) == len(images)
        assert all(prompt.tokens[begin] == prompt.tokens[end - 1] == processor.feature_id for begin, end in prompt.spans)
        inside = sum(int((prompt.tokens[begin:end] == processor.feature_id).sum()) for begin, end in prompt.spans)
        assert inside == (prompt.tokens == processor.feature_id).sum()


@pytest.mark.parametrize(
    ("family", "replacement", "span"),
    [
        ("qwen2_vl", ["<|image_pad|>"] * 6, (1, 7)),  # 60 x 80 pixels: 56 x 84, 2 x 3 merged patches of 28
        ("qwen2_5_vl", ["<|image_pad|>"] * 6, (1, 7)),
        ("qwen3_vl", ["<|image_pad|>"] * 4, (1, 5)),  # 64 x 64, merged patches of 32
        ("internvl", ["<img>", *["<IMG_CONTEXT>"] * 12, "</img>"], (2, 14)),  # 1 x 2 tiles, and the whole
    ],
)
def test_a_placeholder_becomes_the_processors_tokens(
    family: str, replacement: list[str], span: tuple[int, int], folders: Callable[[str], Path]
) -> None:
    processor = load(folders(family))
    words = processor.tokenizer.convert_tokens_to_ids
    size = (60, 80) if family != "internvl" else (50, 100)
    a, b = words(["a", "b"])
    tokens, spans = processor.expand([a, processor.image_token_id, b, processor.image_token_id], [size, size])
    assert tokens == [a, *words(replacement), b, *words(replacement)]
    assert spans == (span, (span[0] + len(replacement) + 1, span[1] + len(replacement) + 1))
    assert processor.expand([a, b], []) == ([a, b], ())


def test_tiles_are_within_one_span(folders: Callable[[str], Path]) -> None:
    processor = load(folders("idefics3"))
    tokens, [(begin, end)] = processor.expand([processor.image_token_id], [(56, 112)])
    names = processor.tokenizer.convert_ids_to_tokens(tokens)
    assert {"<row_1_col_1>", "<row_1_col_2>", "<global-img>"} < set(names)
    assert names[begin] == names[end - 1] == "<image>" and "<image>" not in names[:begin] + names[end:]


def test_the_processor_runs_once_per_size(folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    processor = load(folders("qwen2_vl"))
    before = processor.expand([processor.image_token_id], [(61, 83)])
    monkeypatch.setattr(processor, "processor", None)
    assert processor.expand([processor.image_token_id], [(61, 83)]) == before


def test_more_image_tokens_than_images_are_an_error(folders: Callable[[str], Path]) -> None:
    processor = load(folders("qwen2_vl"))
    with pytest.raises(ValueError, match="2 image tokens for 1 images"):
        processor.expand([processor.image_token_id] * 2, [(50, 50)])


@pytest.mark.parametrize("size", [(201, 1), (1, 201), (1000, 4)])
def test_an_image_too_long_for_the_processor_is_named_with_its_row(
    size: tuple[int, int], folders: Callable[[str], Path], cfg: Config, tmp_path: Path
) -> None:
    rows, _ = write_rows(tmp_path, [1, 1])
    Image.new("RGB", size).save(tmp_path / "1_0.png")
    processor = load(folders("qwen2_5_vl"))
    said = complaint(lambda: load_dataset(cfg, processor.tokenizer, processor))
    assert "row 2: " in said and f"rejects an image of {size[0]} x {size[1]} pixels" in said and "aspect ratio" in said


# --- features


@pytest.mark.parametrize("family", tiny_vlm.FAMILIES)
def test_features_are_those_of_the_plain_processor(family: str, folders: Callable[[str], Path], cfg: Config, tmp_path: Path) -> None:
    write_rows(tmp_path, [2, 1])
    processor = load(folders(family))
    plain = AutoProcessor.from_pretrained(folders(family))
    for prompt in load_dataset(cfg, processor.tokenizer, processor).train:
        images = [open_image(path, LIMITS, "row 1") for path in prompt.images]
        features = processor.features(prompt, images)
        expected = plain(text=[prompt.text], images=images, return_tensors="pt")
        assert "pixel_values" in features.inputs and features.inputs.keys() == expected.keys() - {
            "input_ids",
            "attention_mask",
            "token_type_ids",
            "mm_token_type_ids",
        }
        for name, array in features.inputs.items():
            assert isinstance(array, np.ndarray) and np.array_equal(array, expected[name].numpy())
        assert features.prompt == prompt.index and len(features.digests) == len(images)
        assert features.tokens == (prompt.tokens == processor.feature_id).sum()


def test_digests_differ_between_images_and_between_settings(folders: Callable[[str], Path]) -> None:
    processor, smaller = load(folders("qwen2_vl")), load(folders("qwen2_vl"), ImageConfig(max_pixels=10_000))
    black, white = Image.new("RGB", (60, 80)), Image.new("RGB", (60, 80), "white")
    turned = Image.new("RGB", (80, 60))

    def digests(processor: Processor, *images: Image.Image) -> tuple[str, ...]:
        text = processor.image_token * len(images)
        ids, spans = processor.expand([processor.image_token_id] * len(images), [(image.height, image.width) for image in images])
        return processor.features(Prompt(0, text, np.array(ids, np.int32), "", {}, ("",) * len(images), spans), list(images)).digests

    first = digests(processor, black, white, black, turned)
    assert first[0] == first[2] and len(set(first)) == 3
    assert digests(processor, black) == first[:1]
    assert digests(smaller, black) != first[:1]


def test_a_changed_image_is_detected(folders: Callable[[str], Path], cfg: Config, tmp_path: Path) -> None:
    write_rows(tmp_path, [0, 1])
    processor = load(folders("qwen2_vl"))
    prompt = load_dataset(cfg, processor.tokenizer, processor).train[1]
    with pytest.raises(RunFailed, match="prompt 1: the model's processor now makes"):
        processor.features(prompt, [Image.new("RGB", (140, 140))])


def test_a_plain_prompt_with_the_tokenizers_begin_token_has_features(copy: Callable[[str], Path], cfg: Config, tmp_path: Path) -> None:
    folder = copy("qwen2_vl")
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    write_rows(tmp_path, [1])
    cfg.data.chat = False
    processor = load(folder)
    [prompt] = load_dataset(cfg, processor.tokenizer, processor).train
    assert prompt.tokens[0] == 0 and prompt.tokens[prompt.spans[0][0]] == processor.feature_id
    processor.features(prompt, [open_image(prompt.images[0], LIMITS, "row 1")])


def test_a_blank_image_stands_for_ranks_that_have_none(folders: Callable[[str], Path]) -> None:
    for family in tiny_vlm.FAMILIES:
        processor = load(folders(family))
        tokens, features = processor.blank()
        assert features.tokens == (tokens == processor.feature_id).sum() > 0 and "pixel_values" in features.inputs


# --- loading


def test_a_text_model_has_no_processor(project: Path) -> None:
    model = ModelConfig(path=str(project / "assets/countdown"))
    assert load_processor(model, LIMITS, load_tokenizer(model)) is None


@pytest.mark.parametrize("family", tiny_vlm.FAMILIES)
def test_the_processor_works_with_the_tokenizer_that_it_is_given(family: str, folders: Callable[[str], Path]) -> None:
    model = ModelConfig(path=str(folders(family)))
    tokenizer = load_tokenizer(model)
    processor = load_processor(model, LIMITS, tokenizer)
    assert processor is not None and processor.processor.tokenizer is tokenizer is processor.tokenizer
    assert processor.chat_template == tokenizer.chat_template
    assert processor.image_token == tokenizer.convert_ids_to_tokens(processor.image_token_id)


def test_a_missing_processor_is_named_with_its_file(copy: Callable[[str], Path]) -> None:
    folder = copy("qwen2_5_vl")
    (folder / "processor_config.json").unlink()
    said = complaint(lambda: load(folder))
    assert f"{folder} is a vision-language model without processor_config.json" in said and "preprocessor_config.json" in said


def test_a_processor_that_cannot_be_loaded_is_named(copy: Callable[[str], Path]) -> None:
    folder = copy("qwen2_5_vl")
    (folder / "processor_config.json").write_text("{")
    assert f"the processor of {folder} cannot be loaded" in complaint(lambda: load(folder))


def test_an_older_models_preprocessor_config_is_accepted(copy: Callable[[str], Path]) -> None:
    folder = copy("qwen2_vl")
    before = load(folder).expand([load(folder).image_token_id], [(60, 80)])
    (folder / "processor_config.json").unlink()
    old = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor"}
    old |= {"min_pixels": 56 * 56, "max_pixels": 140 * 140, "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    assert load(folder).expand([load(folder).image_token_id], [(60, 80)]) == before


def test_a_family_without_separate_image_tokens_is_refused(
    folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Processor, "replacement", lambda self, size: [200, self.image_token_id, 200])
    assert "this family is not supported" in complaint(lambda: load(folders("qwen2_vl")))


@pytest.mark.parametrize("family", tiny_vlm.QWEN)
def test_limits_of_the_area_limit_an_images_tokens(family: str, folders: Callable[[str], Path]) -> None:
    side = 32 if family == "qwen3_vl" else 28
    processor = load(folders(family), ImageConfig(min_pixels=(3 * side) ** 2, max_pixels=(4 * side) ** 2))
    assert len(processor.replacement((1, 1))) == 9
    assert len(processor.replacement((2000, 2000))) == 16
    only_most = load(folders(family), ImageConfig(max_pixels=(3 * side) ** 2))
    assert len(only_most.replacement((1, 1))) == 4 and len(only_most.replacement((2000, 2000))) == 9


def test_limits_that_exclude_each_other_are_named(folders: Callable[[str], Path]) -> None:
    for limits in (ImageConfig(min_pixels=500, max_pixels=400), ImageConfig(max_pixels=400), ImageConfig(min_pixels=10**6)):
        said = complaint(lambda limits=limits: load(folders("qwen2_vl"), limits))
        assert "data.image.min_pixels=" in said and "data.image.max_pixels=" in said


@pytest.mark.parametrize("family", ["internvl", "idefics3"])
def test_limits_that_a_family_does_not_support_are_refused(family: str, folders: Callable[[str], Path]) -> None:
    said = complaint(lambda: load(folders(family), ImageConfig(max_pixels=10_000)))
    assert said.startswith("data.image.max_pixels=10000: the ") and "has no such setting" in said


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("qwen2_vl", {"<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"}),
        ("qwen3_vl", {"<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"}),
        ("internvl", {"<img>", "</img>", "<IMG_CONTEXT>", "<video>"}),
        (
            "idefics3",
            {"<image>", "<fake_token_around_image>", "<global-img>", *(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7))},
        ),
    ],
)
def test_vision_tokens_are_those_that_no_policy_may_sample(family: str, expected: set[str], folders: Callable[[str], Path]) -> None:
    processor = load(folders(family))
    ids = processor.vision_tokens()
    assert ids == sorted(ids) and set(processor.tokenizer.convert_ids_to_tokens(ids)) == expected
    assert processor.tokenizer.eos_token_id not in ids and processor.tokenizer.pad_token_id not in ids


def test_a_vision_token_that_ends_texts_may_be_sampled(folders: Callable[[str], Path]) -> None:
    processor = load(folders("qwen2_vl"))
    processor.tokenizer.eos_token = "<|vision_pad|>"
    assert "<|vision_pad|>" not in processor.tokenizer.convert_ids_to_tokens(processor.vision_tokens())
