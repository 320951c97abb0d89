"""Data sets with images: their places in a prompt, their sources, and inconsistent rows."""

import base64
import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from tests.support import tiny_vlm
from uec.commands.cli import main
from uec.config.file import load_config
from uec.config.schema import Config
from uec.config.validate import validate
from uec.data.dataset import Dataset
from uec.data.embedded_images import write_images
from uec.data.prompts import load_dataset
from uec.data.tables import load_rows
from uec.errors import BadInput
from uec.models.pretrained import load_tokenizer
from uec.models.processor import load_processor
from uec.run_folder import RunFolder
from uec.tracking.rollouts import Page, write_rollouts
from uec.types import Kind, TrainingSample, Trajectory

GOOD = {"prompt": "Find x.", "answer": "1"}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm.build("qwen2_5_vl", tmp_path_factory.mktemp("model"))


@pytest.fixture
def cfg(make_config: Callable[..., Config], tmp_path: Path, model: Path) -> Config:
    """Return a config for chats of at most 1000 tokens with images in column `images`, without evaluation."""
    cfg = make_config("data.max_prompt_tokens=1000", "data.chat=true")
    cfg.data.train, cfg.data.eval, cfg.model.path = str(tmp_path / "rows.jsonl"), None, str(model)
    return cfg


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes rows to a .jsonl file beside a.png, b.png and c.png and returns its path."""
    for i, name in enumerate("abc"):
        (tmp_path / f"{name}.png").write_bytes(png(60 + 20 * i, 60))

    def write(*rows: Any, name: str = "rows.jsonl") -> str:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    return write


def png(width: int, height: int, colour: str = "red") -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def load(cfg: Config) -> Dataset:
    tokenizer = load_tokenizer(cfg.model)
    return load_dataset(cfg, tokenizer, load_processor(cfg.model, cfg.data.image, tokenizer))


def complaint(action: Callable[[], Any]) -> str:
    with pytest.raises(BadInput) as raised:
        action()
    return str(raised.value)


def marked(text: str) -> str:
    """<> for what Qwen's chat template writes for an image, and nothing of the chat around it."""
    text = text.removeprefix("<|im_start|>user\n").removesuffix("<|im_end|>\n<|im_start|>assistant\n")
    return text.replace("<|vision_start|><|image_pad|><|vision_end|>", "<>")


# --- places of images


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize(
    ("images", "prompt", "expected"),
    [
        ("a.png", "Find x.", "<>Find x."),
        (["a.png"], "Find x.", "<>Find x."),
        (["a.png", "b.png"], "Find x.", "<><>Find x."),
        (["a.png", "b.png"], "Is <image> more than <image>?", "Is <> more than <>?"),
        (["a.png"], "<image>\nFind x.", "<>\nFind x."),
        (["a.png"], "Find x:<image>", "Find x:<>"),
        (["a.png"], "<image>", "<>"),
        (["a.png", "b.png"], "<image><image>", "<><>"),
        ([], "Find x.", "Find x."),
        (None, "Find x.", "Find x."),
        ("", "Find x.", "Find x."),
    ],
)
def test_images_are_at_the_marks_in_the_text_or_before_it(
    cfg: Config, write: Callable[..., str], images: Any, prompt: str, expected: str, chat: bool
) -> None:
    write({"prompt": prompt, "answer": "1", "images": images})
    cfg.data.chat = chat
    [loaded] = load(cfg).train
    assert marked(loaded.text) == expected
    assert len(loaded.images) == len(loaded.spans) == expected.count("<>")


def test_paths_are_absolute_and_in_the_order_of_their_places(cfg: Config, write: Callable[..., str], tmp_path: Path) -> None:
    write({**GOOD, "images": ["b.png", "a.png", "b.png"]})
    [prompt] = load(cfg).train
    assert prompt.images == tuple(str(tmp_path / name) for name in ("b.png", "a.png", "b.png"))
    # 80 x 60 and 60 x 60 pixels: 2 x 3 and 2 x 2 merged patches
    assert [end - begin for begin, end in prompt.spans] == [6, 4, 6]
    assert prompt.row["images"] == ["b.png", "a.png", "b.png"]


def test_rows_with_and_without_images_mix(cfg: Config, write: Callable[..., str]) -> None:
    write({**GOOD, "images": "a.png"}, GOOD, {**GOOD, "images": []}, {**GOOD, "images": ["b.png", "c.png"]})
    assert [marked(prompt.text) for prompt in load(cfg).train] == ["<>Find x.", "Find x.", "Find x.", "<><>Find x."]


def test_the_template_may_hold_the_mark_of_an_image(cfg: Config, write: Callable[..., str]) -> None:
    write({**GOOD, "images": "a.png"})
    cfg.data.template = "Look: <image> {prompt} Think."
    assert marked(load(cfg).train[0].text) == "Look: <> Find x. Think."


def test_a_rows_messages_may_hold_parts(cfg: Config, write: Callable[..., str]) -> None:
    parts = [{"type": "text", "text": "Is "}, {"type": "image", "text": None}, {"type": "text", "text": " square?"}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Why?"}]
    write({"prompt": turns, "answer": "1", "images": "a.png"})
    cfg.data.template, cfg.data.system = "{prompt} Think.", "Be brief."
    [prompt] = load(cfg).train
    shown = prompt.text.replace("<|im_start|>", "[").replace("<|im_end|>\n", "]").replace("\n", ":")
    assert marked(shown) == "[system:Be brief.][user:Is <> square?][assistant:No.][user:Why? Think.][assistant:"


def test_images_go_before_the_first_user_message_without_marks(cfg: Config, write: Callable[..., str]) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    write({"prompt": turns, "answer": "1", "images": "a.png"})
    assert "user\n<>a" in marked(load(cfg).train[0].text)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "<image> and <image>", "images": "a.png"}, "2 x <image> in the text, and 1 images; expected one for each"),
        ({"prompt": "<image>", "images": ["a.png", "b.png"]}, "1 x <image> in the text, and 2 images"),
        ({"prompt": "<image>"}, "1 x <image> in the text, and 0 images"),
        ({"prompt": "What is <|image_pad|>?", "images": "a.png"}, "the text holds '<|image_pad|>', which the model reads as"),
        ({"prompt": "What is <|image_pad|>?"}, "the text holds '<|image_pad|>'"),
        ({"prompt": "<|vision_start|>", "images": "a.png"}, "the text holds '<|vision_start|>'"),
        ({"prompt": "x<|video_pad|>", "images": "a.png"}, "the text holds '<|video_pad|>'"),
        ({"prompt": "x", "images": "missing.png"}, "missing.png is no file"),
        ({"prompt": "x", "images": ["a.png", 7]}, "the image is int 7"),
        ({"prompt": "x", "images": "https://x.org/a.png"}, "download it"),
        ({"prompt": " ", "images": "a.png"}, "the prompt is empty"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image", "image": "b.png"}]}], "images": "a.png"},
            "1 images in 'images' (data.image_key) and 1 others in the chat messages",
        ),
        ({"prompt": [{"role": "user", "content": [{"type": "video"}]}], "images": "a.png"}, "is no chat message's part"),
        ({"prompt": [{"role": "user", "content": []}], "images": "a.png"}, "is no chat message"),
        ({"prompt": [{"role": "system", "content": "x"}, {"role": "tool", "content": "x"}], "images": "a.png"}, "0 x <image> in the text"),
    ],
)
def test_an_inconsistent_row_is_named(cfg: Config, write: Callable[..., str], row: dict[str, Any], message: str) -> None:
    write({**GOOD, "images": "a.png"}, {"answer": "1", **row})
    said = complaint(lambda: load(cfg))
    assert said.startswith("data.train: ") and "row 2: " in said and message in said


def test_a_mark_that_is_also_a_token_of_the_model_is_no_conflict(cfg: Config, write: Callable[..., str], tmp_path: Path) -> None:
    cfg.model.path = str(tiny_vlm.build("idefics3", tmp_path / "idefics3"))
    write({"prompt": "Is <image> more than <image>?", "answer": "1", "images": ["a.png", "b.png"]})
    assert load(cfg).train[0].text.count("<image>") == 2
    write({"prompt": "<fake_token_around_image>", "answer": "1", "images": ["a.png"]})
    assert "the text holds '<fake_token_around_image>'" in complaint(lambda: load(cfg))


# --- chat templates


def test_a_chat_template_of_text_only_gets_the_placeholder_in_the_text(
    cfg: Config, write: Callable[..., str], model: Path, tmp_path: Path
) -> None:
    cfg.model.path = str(shutil.copytree(model, tmp_path / "model"))
    (tmp_path / "model/chat_template.jinja").write_text("{% for m in messages %}{{ m['role'] + ':' + m['content'] }}{% endfor %}")
    write({"prompt": "Is <image> square?", "answer": "1", "images": "a.png"}, GOOD)
    assert [marked(prompt.text) for prompt in load(cfg).train] == ["user:Is <> square?", "user:Find x."]


def test_a_chat_template_that_needs_parts_gets_them_for_text_too(
    cfg: Config, write: Callable[..., str], model: Path, tmp_path: Path
) -> None:
    cfg.model.path = str(shutil.copytree(model, tmp_path / "model"))
    template = "{% for m in messages %}{% for p in m['content'] %}{% if p['type'] == 'image' %}<|image_pad|>{% else %}{{ p['text'] }}"
    (tmp_path / "model/chat_template.jinja").write_text(template + "{% endif %}{% endfor %}{% endfor %}")
    write({**GOOD, "images": "a.png"}, GOOD)
    assert [prompt.text for prompt in load(cfg).train] == ["<|image_pad|>Find x.", "Find x."]


def test_a_chat_template_that_loses_an_image_is_named(cfg: Config, write: Callable[..., str], model: Path, tmp_path: Path) -> None:
    cfg.model.path = str(shutil.copytree(model, tmp_path / "model"))
    (tmp_path / "model/chat_template.jinja").write_text("{{ 'Solve it.' }}")
    write({**GOOD, "images": "a.png"})
    said = complaint(lambda: load(cfg))
    assert "row 1: the model's chat template writes 0 image tokens for 1 images; set data.chat=false" in said


# --- model and data


def test_a_text_model_refuses_rows_with_images(cfg: Config, write: Callable[..., str], project: Path) -> None:
    cfg.model.path, cfg.data.chat = str(project / "assets/countdown"), False
    row = {"prompt": "1 2 3 : 6 =", "answer": "6"}
    write(row, {**row, "images": ["a.png"]})
    said = complaint(lambda: load(cfg))
    assert "row 2: there is an image in 'images' (data.image_key), and the model reads text only" in said and "data.image_key=null" in said
    cfg.data.image_key = None
    assert len(load(cfg).train) == 2
    write(row, {**row, "images": []}, {**row, "images": None}, {**row, "images": {"bytes": None, "path": None}})
    cfg.data.image_key = "images"
    assert len(load(cfg).train) == 4


def test_a_text_model_refuses_messages_with_images(cfg: Config, write: Callable[..., str], project: Path) -> None:
    cfg.model.path = str(project / "assets/countdown")
    tokenizer = load_tokenizer(cfg.model)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    write({"prompt": [{"role": "user", "content": [{"type": "text", "text": "1 2 3 : 6 ="}]}], "answer": "6"})
    assert load_dataset(cfg, tokenizer).train[0].text == "1 2 3 : 6 ="
    write({"prompt": [{"role": "user", "content": [{"type": "image"}]}], "answer": "6"})
    assert "the model reads text only" in complaint(lambda: load_dataset(cfg, tokenizer))


def test_a_column_of_images_that_no_row_has_is_named(cfg: Config, write: Callable[..., str]) -> None:
    write({**GOOD, "image": "a.png"}, GOOD)
    said = complaint(lambda: load(cfg))
    assert "no row has an image column 'images' (data.image_key); there are 'prompt', 'answer', 'image'" in said
    cfg.data.image_key = None
    assert [prompt.images for prompt in load(cfg).train] == [(), ()]
    cfg.data.image_key = "image"
    assert [len(prompt.images) for prompt in load(cfg).train] == [1, 0]


def test_a_vision_language_model_without_its_processor_is_refused(
    cfg: Config, write: Callable[..., str], model: Path, tmp_path: Path
) -> None:
    cfg.model.path = str(shutil.copytree(model, tmp_path / "model"))
    (tmp_path / "model/processor_config.json").unlink()
    write({**GOOD, "images": "a.png"})
    assert "is a vision-language model without processor_config.json" in complaint(lambda: load(cfg))


def test_long_prompts_are_dropped_with_their_image_tokens_counted(cfg: Config, write: Callable[..., str]) -> None:
    write({**GOOD, "images": ["c.png"] * 3}, {**GOOD, "images": "a.png"}, {**GOOD, "images": ["b.png"]}, GOOD)
    lengths = [len(prompt.tokens) for prompt in load(cfg).train]
    assert [length - lengths[3] for length in lengths] == [3 * (8 + 2), 4 + 2, 6 + 2, 0]  # with the marks of begin and end
    cfg.data.eval, cfg.data.max_prompt_tokens = cfg.data.train, lengths[1]
    dataset = load(cfg)
    assert [len(prompt.tokens) for prompt in dataset.train] == [lengths[1], lengths[3]]
    assert (dataset.dropped_train, dataset.dropped_eval) == (2, 2)
    assert [prompt.index for prompt in dataset.train + dataset.eval] == [0, 1, 2, 3]
    cfg.data.eval, cfg.data.max_prompt_tokens = None, 5
    said = complaint(lambda: load(cfg))
    assert f"the shortest has {lengths[3]} tokens" in said and "data.image.max_pixels limits the tokens of an image" in said


# --- where images come from


def test_relative_paths_begin_at_the_data_files_folder_or_the_root(
    cfg: Config, write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.png").write_bytes(png(100, 60))
    write({**GOOD, "images": "a.png"})
    monkeypatch.chdir(tmp_path)
    cfg.data.train = "rows.jsonl"
    assert load(cfg).train[0].images == (str(tmp_path / "a.png"),)
    cfg.data.image.root = "elsewhere"
    assert load(cfg).train[0].images == (str(tmp_path / "elsewhere/a.png"),)
    write({**GOOD, "images": str(tmp_path / "a.png")})
    assert "is not in data.image.root=elsewhere" in complaint(lambda: load(cfg))


def test_each_file_of_a_list_is_where_its_paths_begin(cfg: Config, write: Callable[..., str], tmp_path: Path) -> None:
    for part in "12":
        (tmp_path / "data" / part).mkdir(parents=True)
        (tmp_path / "data" / part / "a.png").write_bytes(png(60, 60))
        write({**GOOD, "images": "a.png"}, name=f"data/{part}/train-{part}.jsonl")
    cfg.data.train = [str(tmp_path / "data" / part) for part in "12"]
    assert [prompt.images[0] for prompt in load(cfg).train] == [str(tmp_path / "data" / part / "a.png") for part in "12"]


def test_parquet_with_bytes_has_its_images_written_into_the_run_folder(cfg: Config, write: Callable[..., str], tmp_path: Path) -> None:
    write(GOOD)
    red, blue = png(60, 60), png(80, 60, "blue")
    rows = [
        {**GOOD, "images": [{"bytes": red, "path": "x.png"}, {"bytes": blue, "path": None}]},
        {**GOOD, "images": [{"bytes": red, "path": "y.png"}]},
        {**GOOD, "images": []},
        {**GOOD, "images": [{"bytes": None, "path": "a.png"}]},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    cfg.data.train = str(tmp_path / "rows.parquet")
    dataset = load(cfg)
    assert ["images" in prompt.row for prompt in dataset.train] == [False, False, True, True]
    assert set(dataset.embedded.values()) == {red, blue}
    placed = write_images(dataset, tmp_path / "run/images")
    first, second, third, fourth = (prompt.images for prompt in placed.train)
    assert [Path(path).read_bytes() for path in first] == [red, blue] and second == first[:1]
    assert third == () and fourth == (str(tmp_path / "a.png"),)
    assert len(list((tmp_path / "run/images").iterdir())) == 2


def test_a_column_of_bytes_and_one_of_single_images_are_read(cfg: Config, tmp_path: Path) -> None:
    cfg.data.train, cfg.data.image_key = str(tmp_path / "rows.parquet"), "image"
    for value in (png(60, 60), {"bytes": png(60, 60), "path": None}):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{**GOOD, "image": value}]), tmp_path / "rows.parquet")
        dataset = load(cfg)
        assert list(dataset.embedded.values()) == [png(60, 60)] and list(dataset.embedded) == list(dataset.train[0].images)


def test_images_of_dropped_prompts_are_not_kept(cfg: Config, tmp_path: Path) -> None:
    rows = [{**GOOD, "images": [png(60, 60)]}, {**GOOD, "images": [png(140, 140)] * 9}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    cfg.data.train, cfg.data.max_prompt_tokens = str(tmp_path / "rows.parquet"), 100
    dataset = load(cfg)
    assert dataset.dropped_train == 1 and list(dataset.embedded.values()) == [png(60, 60)]


def test_a_saved_dataset_has_its_images_undecoded(cfg: Config, tmp_path: Path) -> None:
    import datasets

    image = Image.new("RGB", (60, 60), "red")
    columns = {"prompt": ["Find x.", "Find y."], "answer": ["1", "2"], "image": [image, None], "images": [[image, image], []]}
    kinds = {"prompt": datasets.Value("string"), "answer": datasets.Value("string"), "image": datasets.Image()}
    features = datasets.Features({**kinds, "images": datasets.List(datasets.Image())})
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns, features)}).save_to_disk(str(tmp_path / "saved"))
    rows = load_rows(str(tmp_path / "saved"), "train", "data.train")
    assert rows[0]["image"]["bytes"].startswith(b"\x89PNG") and rows[1]["image"] is None and len(rows[0]["images"]) == 2
    cfg.data.train = str(tmp_path / "saved")
    for key, counts in (("image", [1, 0]), ("images", [2, 0])):
        cfg.data.image_key = key
        dataset = load(cfg)
        assert [len(prompt.images) for prompt in dataset.train] == counts and len(dataset.embedded) == 1
        assert key not in dataset.train[0].row


def test_a_dataset_of_the_hub_has_its_images_undecoded(cfg: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    image = Image.new("RGB", (60, 60), "red")
    features = datasets.Features({"prompt": datasets.Value("string"), "answer": datasets.Value("string"), "images": datasets.Image()})
    held = datasets.Dataset.from_dict({"prompt": ["Find x."], "answer": ["1"], "images": [image]}, features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: held)
    cfg.data.train = "someone/images"
    assert len(load(cfg).embedded) == 1
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list([{**GOOD, "images": "a.png"}]))
    assert "row 1: the image's path a.png is relative, and a dataset of the hub" in complaint(lambda: load(cfg))


def test_geometry3k_goes_through_with_two_settings(cfg: Config, project: Path) -> None:
    cfg.data.train = str(project / "tests/data/geometry3k/train.jsonl")
    cfg.data.image_key, cfg.data.prompt_key = "image", "problem_text"
    dataset = load(cfg)
    assert len(dataset.train) == 6 and dataset.dropped_train == 0 and not dataset.embedded
    for prompt in dataset.train:
        [(begin, end)] = prompt.spans
        assert Path(prompt.images[0]).is_file() and end - begin > 10 and prompt.row["image"].startswith("images/")


# --- the run


def test_bad_images_end_with_status_2_before_anything_starts(
    project: Path,
    tmp_path: Path,
    write: Callable[..., str],
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("actors.programs.preflight.connect", lambda *_: pytest.fail("a cluster was asked for"))
    (tmp_path / "cut.png").write_bytes(png(60, 60)[:60])
    data = write({**GOOD, "images": "a.png"}, {**GOOD, "images": "cut.png"})

    def refused(*overrides: str) -> str:
        status = main(["train", "configs/llm.yaml", f"run.dir={tmp_path / 'runs'}", f"data.train={data}", "data.eval=null", *overrides])
        said = capsys.readouterr().err
        assert status == 2 and said.startswith("uec: ") and "Traceback" not in said
        assert not list(tmp_path.glob("runs/*"))
        return said

    assert "row 1: there is an image in 'images' (data.image_key)" in refused()
    with_images = [f"model.path={model}", "data.chat=true", "reward.fn=exact"]
    assert "row 2: " in (said := refused(*with_images)) and "cut.png is damaged" in said
    assert "data.image.max_file_pixels=100" in refused(*with_images, "data.image.max_file_pixels=100")
    assert "data.image.max_pixels=10" in refused(*with_images, "data.image.max_pixels=10")
    assert "data.image.root" in refused(*with_images, f"data.image.root={tmp_path}/nowhere")


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        (["data.image.min_pixels=500", "data.image.max_pixels=400"], ["data.image.min_pixels=500", "data.image.max_pixels=400"]),
        (["data.image_key=prompt"], ["data.image_key=prompt", "data.prompt_key=prompt"]),
        (["data.image_key=answer"], ["data.image_key=answer", "data.answer_key=answer"]),
        (["data.image_key=null", "data.image.root=images"], ["data.image.root=images", "data.image_key"]),
        (["data.image.max_file_pixels=0"], ["data.image.max_file_pixels=0", "at least 1"]),
    ],
)
def test_settings_of_images_that_exclude_each_other_are_named(project: Path, overrides: list[str], fragments: list[str]) -> None:
    said = complaint(lambda: validate(load_config(project / "configs/llm.yaml", overrides)))
    assert all(fragment in said for fragment in fragments)


def test_rollouts_name_the_images_from_the_run_folder(cfg: Config, write: Callable[..., str], tmp_path: Path) -> None:
    write(GOOD)
    run = RunFolder(tmp_path / "run")
    rows = [{**GOOD, "images": [{"bytes": png(60, 60), "path": None}, {"bytes": None, "path": "a.png"}]}, {**GOOD, "images": []}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    cfg.data.train = str(tmp_path / "rows.parquet")
    prompts = write_images(load(cfg), run.images).train
    trajectories = [
        Trajectory(i, 0, i, Kind.REGULAR, 1.0, prompt.tokens, np.array([5], np.int32), np.array([-1.0], np.float32), False, (0,))
        for i, prompt in enumerate(prompts)
    ]
    samples = [TrainingSample(i, i, 3, 1, group=i, reward=1.0, accuracy=1.0) for i in range(2)]
    path = run.rollouts / "step_000001.jsonl"
    write_rollouts(path, 1, [Page([0, 1], {})], [trajectories], [samples], {p.index: p for p in prompts}, lambda texts: ["r"] * len(texts))
    first, second = map(json.loads, path.read_text().splitlines())
    inside, outside = first["images"]
    assert (run.path / inside).read_bytes() == png(60, 60) and inside.startswith("images/") and outside == str(tmp_path / "a.png")
    assert "images" not in second


# --- images as text, and inside messages


def base64_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "form",
    [
        lambda text: text,
        lambda text: [text],
        lambda text: f"data:image/png;base64,{text}",
        lambda text: f"data:image;base64,{text}",
        lambda text: {"bytes": text, "path": None},
        lambda text: {"bytes": text, "path": "x.png"},
        lambda text: [{"image": f"data:image/png;base64,{text}"}],
        lambda text: [{"url": f"data:image/png;base64,{text}"}],
        lambda text: text.rstrip("=").replace("+", "-").replace("/", "_"),
        lambda text: "\n".join(text[i : i + 76] for i in range(0, len(text), 76)),
    ],
)
def test_base64_and_data_urls_are_images(cfg: Config, write: Callable[..., str], form: Callable[[str], Any], tmp_path: Path) -> None:
    content = png(80, 60)
    write({**GOOD, "images": form(base64_text(content))}, {**GOOD, "images": "b.png"})
    dataset = load(cfg)
    assert list(dataset.embedded.values()) == [content] and "images" not in dataset.train[0].row
    assert Path(write_images(dataset, tmp_path / "images").train[0].images[0]).read_bytes() == content
    assert dataset.train[1].images == (str(tmp_path / "b.png"),)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "SOURCE"},
        {"type": "image", "image": "SOURCE", "min_pixels": 3136, "text": None},
        {"type": "image_url", "image_url": {"url": "SOURCE", "detail": "low"}},
        {"type": "image_url", "image_url": "SOURCE"},
        {"type": "input_image", "image_url": "SOURCE"},
        {"type": "image", "url": "SOURCE"},
        {"type": "image", "path": "SOURCE"},
        {"image": "SOURCE"},
        {"type": "image", "image": {"bytes": None, "path": "SOURCE"}},
    ],
)
def test_images_inside_the_parts_of_messages_are_read(cfg: Config, write: Callable[..., str], part: Any, tmp_path: Path) -> None:
    for source in ("b.png", f"file://{tmp_path}/b.png"):
        with_source = json.loads(json.dumps(part).replace("SOURCE", source))
        turns = [{"role": "user", "content": [{"type": "text", "text": "Is "}, with_source, {"type": "text", "text": " square?"}]}]
        row = {"prompt": turns, "answer": "1"}
        write(row, {**row, "images": "b.png"}, {**row, "prompt": json.dumps(turns)})
        for prompt in load(cfg).train:
            assert (marked(prompt.text), prompt.images) == ("Is <> square?", (str(tmp_path / "b.png"),))


def test_base64_inside_messages_is_not_sent_to_the_reward_function(cfg: Config, write: Callable[..., str]) -> None:
    text = base64_text(png(80, 60))
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": text}},
        {"type": "text", "text": "Same?"},
    ]
    write({"prompt": [{"role": "user", "content": parts}], "answer": "yes"})
    [prompt] = load(cfg).train
    assert marked(prompt.text) == "<><>Same?" and prompt.images[0] == prompt.images[1]
    assert prompt.row == {"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, parts[2]]}]}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (base64_text(png(80, 60))[:-7], "row 1: "),
        ("data:image/png;base64", "a data: URL without a comma"),
        ("data:image/png;base64,%%%", "is damaged base64"),
        ("data:image/svg+xml,%3Csvg/%3E", "is no image that can be read"),
        ({"bytes": "no base64!", "path": None}, "is damaged base64"),
        ("Q" * 5000, "is a text of 5000 characters, 'QQ"),
        ("x/" * 2000 + "a.png", "row 1: "),
        ("ftp://x.org/a.png", "download it"),
        ([{"weights": "x" * 5000}], "the image is dict"),
    ],
)
def test_an_image_as_text_that_is_none_is_a_short_message(cfg: Config, write: Callable[..., str], image: Any, message: str) -> None:
    write({**GOOD, "images": image})
    said = complaint(lambda: load(cfg))
    assert said.startswith("data.train: ") and message in said and len(said) < 1000
