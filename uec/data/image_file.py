"""Find the images of a row (files or bytes), check them, and decode them to RGB pixels."""

import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from uec.brief import brief, describe
from uec.config.schema import ImageConfig
from uec.data.base64_images import LONGEST_PATH, from_text, of_base64
from uec.errors import BadInput
from uec.types import Prompt

Source = Path | bytes
"""An image: the absolute path of its file, or the bytes of the file."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}

FORMS = 'a path, an image file as bytes, base64 or data: URL, {"bytes": ..., "path": ...}, or a list of those'
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
KEYS = ("image", "image_url", "url", "base64")
"""Of objects that hold one image, {"image": ...}."""

Image.MAX_IMAGE_PIXELS = None  # data.image.max_file_pixels replaces it: also checked before decoding, and configurable
warnings.filterwarnings("ignore", module="PIL", category=UserWarning)  # such as broken EXIF data; Pillow does not name the file


def find_images(value: Any, folder: Path | None, cfg: ImageConfig, where: str) -> list[Source]:
    """Return the images of a row, none for None, "" and []. Opens no file.

    Relative paths start at `data.image.root`, or else at `folder`: the data file's folder, None for a dataset of the hub. Raises BadInput
    with `where` (the row) for a value that is neither path nor bytes, for a URL, and for a path outside the root.
    """
    if not isinstance(value, list):
        source = _find_image(value, folder, cfg, where)
        return [] if source is None else [source]
    images = []
    for number, each in enumerate(value, 1):
        source = _find_image(each, folder, cfg, where)
        if source is None:
            raise BadInput(f"{where}: image {number} of {len(value)} is empty; expected {FORMS}")
        images.append(source)
    return images


def holds_bytes(value: Any) -> bool:
    """Return whether a value of the image column holds an image itself, and not only a path."""
    match value:
        case bytes() | {"bytes": bytes() | str()}:
            return True
        case str():
            return len(value) >= LONGEST_PATH or isinstance(from_text_or_path(value), bytes)
        case list():
            return any(map(holds_bytes, value))
        case dict():
            return any(holds_bytes(value[key]) for key in KEYS if value.get(key))
    return False


def from_text_or_path(text: str) -> bytes | str:
    """Return the bytes of an image as text, or else the text."""
    try:
        return from_text(text, "")
    except BadInput:
        return text


def open_image(source: Source | str, cfg: ImageConfig, where: str) -> Image.Image:
    """Return the image as RGB, rotated by its EXIF orientation, on white where transparent; of an animation the first frame.

    `where`: the row. Raises BadInput for a file that does not exist, has none of FORMATS, has more pixels than
    `data.image.max_file_pixels` (before decoding), or is damaged.
    """
    name = f"{where}: {'the image in the data' if isinstance(source, bytes) else brief(str(source), 500)[1:-1]}"
    try:
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise BadInput(f"{name} is no file; correct the path (a relative one starts at data.image.root)")
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            _check(image, cfg, name)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except BadInput:
        raise
    except UnidentifiedImageError:
        raise BadInput(f"{name} is no image that can be read; expected {', '.join(FORMATS)}") from None
    except Exception as error:  # a decoder may raise any exception on damaged data
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise BadInput(f"{name} is damaged or cannot be read: {str(reason)[:200]}; replace the file, or remove the row") from error


def open_images(prompt: Prompt, cfg: ImageConfig) -> list[Image.Image]:
    """Return a prompt's images, in order, as RGB."""
    return [open_image(path, cfg, f"prompt {prompt.index}") for path in prompt.images]


def suffix(content: bytes) -> str:
    """Return the file suffix for this image content, such as .png."""
    with Image.open(BytesIO(content), formats=FORMATS) as image:
        return SUFFIXES[str(image.format)]


def _find_image(value: Any, folder: Path | None, cfg: ImageConfig, where: str) -> Source | None:
    match value:
        case None | "":
            return None
        case bytes():
            return value
        case str():
            found = from_text(value, where)
            return found if isinstance(found, bytes) else _resolve(found, folder, cfg, where)
        case {"bytes": bytes() as content} if content:
            return content
        case {"bytes": str() as text} if text:
            return of_base64(text, where)
        case {"path": path, **rest} if rest.keys() <= {"bytes"} and not rest.get("bytes"):
            if path is None or isinstance(path, str):
                return _find_image(path, folder, cfg, where)
        case {"bytes": None, **rest} if not rest:
            return None
        case dict() if inner := [value[key] for key in KEYS if value.get(key)]:  # {"type": "image", "image": ...}, {"url": ...}
            return _find_image(inner[0], folder, cfg, where)
    raise BadInput(f"{where}: the image is {describe(value)}; expected {FORMS}")


def _resolve(path: str, folder: Path | None, cfg: ImageConfig, where: str) -> Path:
    """Return the absolute path, with links and .. resolved."""
    if URL.match(path):
        raise BadInput(f"{where}: the image is the URL {path[:80]}, and a run downloads nothing; download it and give its path")
    root = None if cfg.root is None else Path(cfg.root).expanduser()
    if root is not None and not root.is_dir():
        raise BadInput(f"data.image.root: there is no folder {root.absolute()}; give the folder that holds the images")
    begin = folder if root is None else root
    if begin is None and not Path(path).is_absolute():
        raise BadInput(
            f"{where}: the image's path {path[:200]} is relative, and a dataset of the hub has no folder to start from; set data.image.root"
        )
    try:
        resolved = (Path(path) if begin is None else begin / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, a loop of links
        raise BadInput(f"{where}: {brief(path, 200)} cannot be a path: {str(error)[:200]}; correct it, or remove the row") from error
    if root is not None and not resolved.is_relative_to(root.resolve()):
        raise BadInput(f"{where}: the image {resolved} is not in data.image.root={cfg.root}; move it there, or give another root")
    return resolved


def _check(image: Image.Image, cfg: ImageConfig, name: str) -> None:
    """Check what the file header shows, before decoding."""
    width, height = image.size
    if width * height > cfg.max_file_pixels:
        limit = f"data.image.max_file_pixels={cfg.max_file_pixels}"
        raise BadInput(f"{name} has {width} x {height} pixels, more than {limit}; make it smaller, or raise the limit")
    if image.mode in ("I", "F"):
        raise BadInput(f"{name} has pixels of 32 bits without a known white level; save it with 8 or 16 bits")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip levels above 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
