"""One picture: from a value of the image column to its file or bytes, and from those to RGB pixels, with every check on the way."""

import re
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from uec.config.schema import ImageConfig
from uec.errors import BadInput
from uec.types import Prompt

Source = Path | bytes
"""A picture's file, absolute, or what is in it."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}

FORMS = 'a path, the bytes of a picture file, {"bytes": ..., "path": ...}, or a list of those'
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")

Image.MAX_IMAGE_PIXELS = None  # data.image.max_file_pixels takes its place: checked before decoding as well, and the user's to raise
warnings.filterwarnings("ignore", module="PIL", category=UserWarning)  # broken EXIF data and the like, said without the file's name


def find_pictures(value: Any, folder: Path | None, cfg: ImageConfig, where: str) -> list[Source]:
    """The pictures of a row, none for None, "" and []. No file is opened.

    Relative paths begin at `data.image.root`, else at `folder`: the data file's, None for a dataset of the hub. Raises BadInput with
    `where`, the row, for what is neither a path nor bytes, for a URL, and for a path that leaves the root.
    """
    if not isinstance(value, list):
        source = _find_picture(value, folder, cfg, where)
        return [] if source is None else [source]
    pictures = []
    for number, each in enumerate(value, 1):
        source = _find_picture(each, folder, cfg, where)
        if source is None:
            raise BadInput(f"{where}: picture {number} of {len(value)} is empty; expected {FORMS}")
        pictures.append(source)
    return pictures


def holds_bytes(value: Any) -> bool:
    """Whether a value of the image column has a picture in itself, and not only the name of its file."""
    match value:
        case bytes() | {"bytes": bytes()}:
            return True
        case list():
            return any(map(holds_bytes, value))
    return False


def open_image(source: Source | str, cfg: ImageConfig, where: str) -> Image.Image:
    """The whole picture as RGB: turned as its EXIF orientation says, on white where it is transparent, of an animation the first frame.

    `where` is the row. Raises BadInput for a file that is not there, is of none of FORMATS, has more pixels than
    `data.image.max_file_pixels` (before it is decoded), or is damaged.
    """
    name = f"{where}: {'the picture in the data' if isinstance(source, bytes) else source}"
    try:
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise BadInput(f"{name} is no file; correct the path, which data.image.root goes before if it is relative")
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            _check(image, cfg, name)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except BadInput:
        raise
    except UnidentifiedImageError:
        raise BadInput(f"{name} is no picture that can be read; expected {', '.join(FORMATS)}") from None
    except Exception as error:  # on damaged data a decoder raises nearly anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise BadInput(f"{name} is damaged or cannot be read: {reason}; replace the file, or remove the row") from error


def open_images(prompt: Prompt, cfg: ImageConfig) -> list[Image.Image]:
    """A prompt's pictures, in their order, as `open_image` gives them."""
    return [open_image(path, cfg, f"prompt {prompt.index}") for path in prompt.images]


def suffix(content: bytes) -> str:
    """The ending of a picture file with this content, such as .png."""
    with Image.open(BytesIO(content), formats=FORMATS) as image:
        return SUFFIXES[str(image.format)]


def _find_picture(value: Any, folder: Path | None, cfg: ImageConfig, where: str) -> Source | None:
    match value:
        case None | "":
            return None
        case bytes():
            return value
        case str():
            return _resolve(value, folder, cfg, where)
        case {"bytes": bytes() as content} if content:
            return content
        case {"path": path, **rest} if rest.keys() <= {"bytes"} and not rest.get("bytes"):
            if path is None or isinstance(path, str):
                return _find_picture(path, folder, cfg, where)
        case {"bytes": None, **rest} if not rest:
            return None
    text = repr(value)
    raise BadInput(f"{where}: the picture is {type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}; expected {FORMS}")


def _resolve(path: str, folder: Path | None, cfg: ImageConfig, where: str) -> Path:
    """Absolute, links and .. followed."""
    if URL.match(path):
        raise BadInput(f"{where}: the picture is the URL {path[:80]}, and nothing is fetched during a run; download it and give its path")
    root = None if cfg.root is None else Path(cfg.root).expanduser()
    if root is not None and not root.is_dir():
        raise BadInput(f"data.image.root: there is no folder {root.absolute()}; give the folder that the pictures are in")
    begin = folder if root is None else root
    if begin is None and not Path(path).is_absolute():
        raise BadInput(
            f"{where}: the picture's path {path} is relative, and a dataset of the hub has no folder where it could begin; "
            "set data.image.root"
        )
    try:
        resolved = (Path(path) if begin is None else begin / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte, a circle of links
        raise BadInput(f"{where}: {path!r} cannot be a path: {error}; correct it, or remove the row") from error
    if root is not None and not resolved.is_relative_to(root.resolve()):
        raise BadInput(f"{where}: the picture {resolved} is not in data.image.root={cfg.root}; move it there, or give another root")
    return resolved


def _check(image: Image.Image, cfg: ImageConfig, name: str) -> None:
    """What the head of the file already tells."""
    width, height = image.size
    if width * height > cfg.max_file_pixels:
        limit = f"data.image.max_file_pixels={cfg.max_file_pixels}"
        raise BadInput(f"{name} has {width} x {height} pixels, more than {limit}; make it smaller, or raise the limit")
    if image.mode in ("I", "F"):
        raise BadInput(f"{name} has pixels of 32 bits, and nothing says which number is white; save it with 8 or 16 bits")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would cut levels above 255 off
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
