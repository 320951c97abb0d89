"""Read images that are written as text: base64, and data: URLs."""

import base64
import binascii
import re
from urllib.parse import unquote, unquote_to_bytes

from uec.brief import brief
from uec.errors import BadInput

BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]+={0,2}\s*")
BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
"""Of the files of PNG, JPEG, WebP, GIF, BMP and TIFF."""

SHORTEST = 40
LONGEST_PATH = 4096
"""Characters: a longer text is no path on Linux."""


def from_text(text: str, where: str) -> bytes | str:
    """Return the bytes of an image that the text holds, or the path that it is. Raises BadInput for damaged base64.

    A text is base64 if it has no other characters and begins like an image file; a path has a dot before its suffix.
    """
    if text[:5].lower() == "data:":
        return _of_url(text, where)
    if text[:8].lower() == "file:///":
        return unquote(text[7:])
    if len(text) >= SHORTEST and BASE64.fullmatch(text) and _decoded(text[:16]).startswith(BEGINNINGS):
        return of_base64(text, where)
    if len(text) >= LONGEST_PATH:
        raise BadInput(
            f"{where}: the image is a text of {len(text)} characters, {brief(text)}, which is neither a path nor the base64 of an image "
            "file; replace it, or remove the row"
        )
    return text


def of_base64(text: str, where: str) -> bytes:
    """Return the bytes of base64 text, also with line breaks, in the URL's alphabet and without padding. Raises BadInput."""
    plain = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        content = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"{where}: the image {brief(text)} is damaged base64 ({error}); write it again, or remove the row") from error
    if not content:
        raise BadInput(f"{where}: the image is base64 of no bytes; replace it, or remove the row")
    return content


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"))
    except (binascii.Error, ValueError):
        return b""


def _of_url(url: str, where: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma:
        raise BadInput(f"{where}: the image is {brief(url)}, a data: URL without a comma; expected data:image/png;base64,...")
    if head.rstrip().lower().endswith("base64"):
        return of_base64(unquote(body), where)
    return unquote_to_bytes(body)
