"""Image files: the values of the image column, and the RGB pixels of every kind of file."""

import os
import struct
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from uec.config.schema import ImageConfig
from uec.data.dataset import Dataset
from uec.data.embedded_images import file_name, write_images
from uec.data.image_file import find_images, holds_bytes, open_image
from uec.data.image_sizes import measure_images
from uec.errors import BadInput
from uec.types import Prompt

LIMITS = ImageConfig()
RED = (255, 0, 0)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def only_pixel(content: bytes) -> tuple[int, ...]:
    """Return the colour of an image of one colour."""
    image = open_image(content, LIMITS, "row 1")
    assert image.mode == "RGB"
    [(_, colour)] = image.getcolors()
    return colour


def complaint(action: Callable[[], Any]) -> str:
    with pytest.raises(BadInput) as raised:
        action()
    return str(raised.value)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


# --- every kind of image becomes RGB


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read(format: str, tmp_path: Path) -> None:
    original = Image.new("RGB", (30, 20), "white")
    (tmp_path / "image").write_bytes(encoded(original, format))
    image = open_image(tmp_path / "image", LIMITS, "row 1")
    assert image.size == (30, 20) and image.mode == "RGB" and np.asarray(image).min() > 250
    assert open_image(str(tmp_path / "image"), LIMITS, "row 1").tobytes() == image.tobytes()


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_a_lossless_format_keeps_its_pixels(format: str) -> None:
    original = noise(17, 9)
    assert open_image(encoded(original, format), LIMITS, "row 1").tobytes() == original.tobytes()


@pytest.mark.parametrize(
    ("mode", "colour", "format", "expected"),
    [
        ("1", 1, "PNG", (255, 255, 255)),
        ("L", 90, "PNG", (90, 90, 90)),
        ("LA", (90, 255), "PNG", (90, 90, 90)),
        ("RGBA", (*RED, 255), "PNG", RED),
        ("P", 0, "PNG", (0, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "TIFF", RED),
        ("I;16", 0x80FF, "PNG", (128, 128, 128)),
        ("I;16", 0x80FF, "TIFF", (128, 128, 128)),
        ("I;16", 0xFFFF, "PNG", (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(mode: str, colour: Any, format: str, expected: tuple[int, ...]) -> None:
    assert only_pixel(encoded(Image.new(mode, (5, 4), colour), format)) == expected


def test_cmyk_and_grayscale_jpegs_become_rgb() -> None:
    assert only_pixel(encoded(Image.new("L", (16, 16), 90), "JPEG")) == (90, 90, 90)
    red = only_pixel(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100))
    assert red[0] > 250 and max(red[1:]) < 6


def test_transparent_pixels_are_blended_over_white() -> None:
    assert only_pixel(encoded(Image.new("RGBA", (3, 3), (255, 0, 0, 0)))) == (255, 255, 255)
    assert only_pixel(encoded(Image.new("RGBA", (3, 3), (0, 0, 0, 51)))) == (204, 204, 204)  # 255 * (1 - 51 / 255)
    assert only_pixel(encoded(Image.new("LA", (3, 3), (0, 51)))) == (204, 204, 204)
    assert only_pixel(encoded(Image.new("RGB", (3, 3), RED), transparency=RED)) == (255, 255, 255)
    assert only_pixel(encoded(Image.new("L", (3, 3), 7), transparency=7)) == (255, 255, 255)


def test_palettes_with_and_without_transparency_keep_their_colours() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    for format in ("PNG", "GIF"):
        assert list(open_image(encoded(palette, format), LIMITS, "row 1").tobytes()) == [255, 0, 0, 0, 0, 255]
        clear = open_image(encoded(palette, format, transparency=0), LIMITS, "row 1")
        assert list(clear.tobytes()) == [255, 255, 255, 0, 0, 255]
    half = encoded(palette, transparency=bytes([51, 255]))
    assert list(open_image(half, LIMITS, "row 1").tobytes()) == [255, 204, 204, 0, 0, 255]


@pytest.mark.parametrize(
    ("orientation", "size", "corner"),
    [(1, (3, 2), (0, 0)), (2, (3, 2), (2, 0)), (3, (3, 2), (2, 1)), (4, (3, 2), (0, 1))]
    + [(5, (2, 3), (0, 0)), (6, (2, 3), (1, 0)), (7, (2, 3), (1, 2)), (8, (2, 3), (0, 2))],
)
def test_an_image_is_rotated_by_its_exif_orientation(orientation: int, size: tuple[int, int], corner: tuple[int, int]) -> None:
    original = Image.new("RGB", (3, 2))
    original.putpixel((0, 0), RED)
    exif = original.getexif()
    exif[0x0112] = orientation
    turned = open_image(encoded(original, exif=exif), LIMITS, "row 1")
    assert turned.size == size and turned.getpixel(corner) == RED
    assert measure_images({encoded(original, exif=exif): "row 1"}, LIMITS) == {encoded(original, exif=exif): size[::-1]}


def test_broken_exif_data_do_not_matter() -> None:
    original = Image.new("RGB", (40, 20), RED)
    exif = original.getexif()
    exif[0x0112] = 6
    content = bytearray(encoded(original, "JPEG", exif=exif))
    content[content.index(b"Exif") + 12] ^= 0xFF
    assert open_image(bytes(content), LIMITS, "row 1").size == (40, 20)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(format: str) -> None:
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    content = encoded(Image.new("RGB", (8, 8), RED), format, save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")], **options)
    assert only_pixel(content) == RED


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 3), (2, 1)])
def test_the_smallest_images_are_read(size: tuple[int, int]) -> None:
    assert open_image(encoded(Image.new("RGB", size)), LIMITS, "row 1").size == size


# --- what is refused


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    begin = time.perf_counter()
    said = complaint(lambda: open_image(png_that_claims(100_000, 100_000), LIMITS, "data.train: x, row 3"))
    assert said.startswith("data.train: x, row 3: ") and "100000 x 100000 pixels" in said and "data.image.max_file_pixels=50000000" in said
    assert time.perf_counter() - begin < 1


def test_the_limit_of_pixels_is_ours_below_and_above_that_of_pillow() -> None:
    said = complaint(lambda: open_image(encoded(noise(10, 11)), ImageConfig(max_file_pixels=109), "row 1"))
    assert "10 x 11 pixels, more than data.image.max_file_pixels=109" in said
    assert open_image(encoded(noise(10, 11)), ImageConfig(max_file_pixels=110), "row 1").size == (10, 11)
    above = ImageConfig(max_file_pixels=300_000_000)  # Pillow refuses 179 million
    assert "data.image.max_file_pixels=300000000" in complaint(lambda: open_image(png_that_claims(20_000, 20_000), above, "row 1"))


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_cut_off_is_found(format: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.image"
    content = encoded(noise(64, 64), format)
    path.write_bytes(content[: len(content) // 2])
    said = complaint(lambda: open_image(path, LIMITS, "data.train: x, row 7"))
    assert said.startswith(f"data.train: x, row 7: {path} is ") and ("damaged" in said or "no image that can be read" in said)


@pytest.mark.parametrize(
    "content",
    [b"", b"no image at all", b"<svg xmlns='http://www.w3.org/2000/svg'/>", encoded(noise(9, 9), "PPM"), encoded(noise(16, 16), "ICO")],
    ids=["empty", "text", "svg", "ppm", "ico"],
)
def test_an_unknown_format_is_refused_with_the_list_of_formats(content: bytes) -> None:
    said = complaint(lambda: open_image(content, LIMITS, "row 1"))
    assert "row 1: the image in the data is no image that can be read; expected PNG, JPEG, WEBP, GIF, BMP, TIFF" in said


def test_pixels_of_32_bits_are_refused() -> None:
    for mode in ("I", "F"):
        assert "has pixels of 32 bits" in complaint(lambda mode=mode: open_image(encoded(Image.new(mode, (4, 4)), "TIFF"), LIMITS, "row 1"))


@given(st.data())
def test_damaged_data_are_either_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(encoded(noise(12, 12), data.draw(st.sampled_from(FORMATS))))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert open_image(bytes(content), ImageConfig(max_file_pixels=10_000), "row 1").mode == "RGB"
    except BadInput as error:
        assert str(error).startswith("row 1: ")


def test_a_path_that_is_no_regular_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would block
    for path in (tmp_path / "missing.png", tmp_path, tmp_path / "pipe", tmp_path / ("x" * 300)):
        assert complaint(lambda path=path: open_image(path, LIMITS, "row 2")).startswith(f"row 2: {path} is ")


# --- what a value of the column may be


def found(value: Any, folder: Path | None = Path("/data"), **limits: Any) -> list[Any]:
    return find_images(value, folder, ImageConfig(**limits), "row 1")


@pytest.mark.parametrize("value", [None, "", [], {"bytes": None, "path": None}, {"bytes": None}, {"bytes": b"", "path": ""}])
def test_a_row_may_have_no_image(value: Any) -> None:
    assert found(value) == [] and not (holds_bytes(value) and value["bytes"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.png", [Path("/data/a.png")]),
        ("/elsewhere/a.png", [Path("/elsewhere/a.png")]),
        ("../a.png", [Path("/a.png")]),
        (b"content", [b"content"]),
        ({"bytes": b"content", "path": "a.png"}, [b"content"]),
        ({"bytes": None, "path": "a.png"}, [Path("/data/a.png")]),
        ({"path": "a.png"}, [Path("/data/a.png")]),
        ({"bytes": "aGk=", "path": None}, [b"hi"]),
        ({"url": "a.png"}, [Path("/data/a.png")]),
        ("file:///a%20b.png", [Path("/a b.png")]),
        ("data:image/png;base64,aGk=", [b"hi"]),
        (["a.png", b"content", {"bytes": b"x"}], [Path("/data/a.png"), b"content", b"x"]),
    ],
)
def test_paths_bytes_and_lists_of_them_are_found(value: Any, expected: list[Any]) -> None:
    assert found(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "the image is int 5; expected a path, an image file as bytes, base64 or data: URL"),
        ({"weights": "x"}, "the image is dict {'weights': 'x'}"),
        ({"path": 5}, "the image is dict"),
        ({"bytes": 5, "path": None}, "the image is dict"),
        ([["a.png"]], "the image is list"),
        (["a.png", None], "image 2 of 2 is empty"),
        (["a.png", ""], "image 2 of 2 is empty"),
        ("a\0.png", "cannot be a path"),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(value: Any, message: str) -> None:
    said = complaint(lambda: found(value))
    assert said.startswith("row 1: ") and message in said


@pytest.mark.parametrize("url", ["http://x.org/a.png", "https://x.org/a.png", "s3://b/a.png", "file://host/a.png"])
def test_a_url_is_refused_with_the_advice_to_download_it(url: str) -> None:
    assert "download it and give its path" in complaint(lambda: found(url))


def test_a_relative_path_of_a_dataset_of_the_hub_needs_a_root(tmp_path: Path) -> None:
    assert "set data.image.root" in complaint(lambda: found("a.png", None))
    assert found("a.png", None, root=str(tmp_path)) == [tmp_path.resolve() / "a.png"]
    assert found("/a.png", None) == [Path("/a.png")]


def test_paths_start_at_the_root_and_may_not_leave_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (root / "way_out").symlink_to(tmp_path / "outside")
    (root / "way_in").symlink_to(root / "inside")
    (tmp_path / "door").symlink_to(root)
    assert found("inside/a.png", root=str(root)) == [root.resolve() / "inside/a.png"]
    assert found("way_in/a.png", root=str(root)) == [root.resolve() / "inside/a.png"]
    assert found("inside/../a.png", root=str(root)) == [root.resolve() / "a.png"]
    assert found(str(root / "a.png"), root=str(tmp_path / "door")) == [root.resolve() / "a.png"]
    for path in ("../outside/a.png", "way_out/a.png", str(tmp_path / "outside/a.png"), "/etc/passwd", "inside/../../root2/a.png"):
        said = complaint(lambda path=path: found(path, root=str(root)))
        assert said.startswith("row 1: ") and f"is not in data.image.root={root}" in said


def test_a_missing_root_is_named() -> None:
    assert "data.image.root: there is no folder /nowhere" in complaint(lambda: found("a.png", root="/nowhere"))


# --- decoding in parallel, and files in the run folder


def test_images_are_decoded_in_parallel_and_the_first_bad_one_is_named(tmp_path: Path) -> None:
    images: dict[Any, str] = {encoded(noise(5 + i, 7, i)): f"row {i}" for i in range(40)}
    assert list(measure_images(images, LIMITS).values()) == [(7, 5 + i) for i in range(40)]
    images = {**images, tmp_path / "missing.png": "row 41", b"text": "row 42"}
    assert complaint(lambda: measure_images(images, LIMITS)).startswith("row 41: ")
    assert measure_images({}, LIMITS) == {}


def test_a_long_decoding_is_reported_once_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    images = {encoded(noise(5, 7, i)): "row" for i in range(5)}
    measure_images(images, LIMITS)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("uec.data.image_sizes.QUIET_S", 0.0)
    measure_images(images, LIMITS)
    assert capsys.readouterr() == ("", "uec: decoding 5 images\n")


def prompt(index: int, *images: str) -> Prompt:
    return Prompt(index, "text", np.array([1], np.int32), "a", {}, images, ((0, 1),) * len(images))


def test_embedded_images_become_files_named_after_their_content(tmp_path: Path) -> None:
    png, jpeg = encoded(noise(5, 5)), encoded(noise(5, 5), "JPEG")
    names = [file_name(png), file_name(jpeg)]
    assert names[0].endswith(".png") and names[1].endswith(".jpg") and len(names[0]) == 20
    embedded = dict(zip(names, (png, jpeg), strict=True))
    dataset = Dataset([prompt(0, names[0], "/there/a.png"), prompt(1)], [prompt(2, names[1], names[0])], 0, 0, embedded)
    placed = write_images(dataset, tmp_path / "images")
    assert [p.images for p in placed.train] == [(f"{tmp_path}/images/{names[0]}", "/there/a.png"), ()]
    assert placed.eval[0].images == (f"{tmp_path}/images/{names[1]}", f"{tmp_path}/images/{names[0]}")
    assert placed.embedded == {} and placed.eval[0].spans == dataset.eval[0].spans
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == sorted(names)
    assert (tmp_path / "images" / names[1]).read_bytes() == jpeg


def test_an_existing_file_stays_and_a_damaged_one_is_rewritten(tmp_path: Path) -> None:
    content = encoded(noise(5, 5))
    dataset = Dataset([prompt(0, file_name(content))], [], 0, 0, {file_name(content): content})
    path = Path(write_images(dataset, tmp_path).train[0].images[0])
    written = path.stat().st_mtime_ns
    write_images(dataset, tmp_path)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(content[:10])
    write_images(dataset, tmp_path)
    assert path.read_bytes() == content


def test_without_embedded_images_no_folder_is_made(tmp_path: Path) -> None:
    dataset = Dataset([prompt(0, "/there/a.png")], [], 0, 0)
    assert write_images(dataset, tmp_path / "images") is dataset and not (tmp_path / "images").exists()


def test_a_disk_that_refuses_the_images_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    content = encoded(noise(5, 5))
    dataset = Dataset([prompt(0, file_name(content))], [], 0, 0, {file_name(content): content})
    assert "run.dir: the data's images cannot be written to" in complaint(lambda: write_images(dataset, tmp_path / "file" / "images"))
