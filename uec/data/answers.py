"""Read the reference answers of a data set: text, a number, or a list of accepted answers; the part that data.answer_regex finds."""

import json
import math
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from uec.brief import brief, check_characters, describe, is_blank
from uec.config.schema import DataConfig
from uec.errors import BadInput, RunFailed
from uec.types import Answer

EXACT_FLOAT = 2.0**53

FINDER = """
import json, re, sys
pattern, texts = json.load(sys.stdin)
pattern = re.compile(pattern)
for text in texts:
    last = None
    for last in pattern.finditer(text):
        pass
    print(json.dumps(None if last is None else last[1]), flush=True)
"""
"""The program that searches. Python's `re` may take for ever, and nothing can stop it but the end of its process."""


def read_answers(values: Sequence[tuple[Any, str]], data: DataConfig) -> list[Answer]:
    """Return the answers of rows, given as (value of the answer column, name of the row). Raises BadInput."""
    texts = [_as_texts(value, data.answer_key, where) for value, where in values]
    wheres = [where for _, where in values]
    if data.answer_regex is not None:
        texts = _extracted(texts, wheres, data)
    answers: list[Answer] = []
    for (value, where), found in zip(values, texts, strict=True):
        for text in found:
            if is_blank(text):
                raise BadInput(f"{where}: the answer is empty, and no response could be right; fill it, or remove the row")
            check_characters(text, "the answer", where)
        answers.append(found if isinstance(value, list) else found[0])
    return answers


def _as_texts(value: Any, key: str, where: str) -> list[str]:
    if not isinstance(value, list):
        return [_as_text(value, key, where)]
    if not value:
        raise BadInput(f"{where}: the answer in {brief(key)} is an empty list, and no response could be right; fill it, or remove the row")
    return [_as_text(each, key, where) for each in value]


def _as_text(value: Any, key: str, where: str) -> str:
    """Return the answer as text. A whole float is written as an integer, because a column with gaps stores integers as floats."""
    match value:
        case str():
            return value
        case bool():
            return str(value)
        case int() if value.bit_length() < 10_000:
            return str(value)
        case float() if math.isfinite(value):
            return str(int(value)) if value.is_integer() and abs(value) < EXACT_FLOAT else repr(value)
        case Decimal() if value.is_finite() and abs(value.adjusted()) < 1000:
            return str(int(value)) if value == value.to_integral_value() else format(value.normalize(), "f")
        case float() | Decimal() | int():
            raise BadInput(f"{where}: the answer in {brief(key)} is {describe(value)}, which no response can give; remove the row")
    raise BadInput(
        f"{where}: the answer in {brief(key)} is {describe(value)}; expected text, a number, or a list of accepted answers; give a field "
        "inside a column by its path, such as data.answer_key=reward_model.ground_truth"
    )


# --- data.answer_regex


def _extracted(texts: list[list[str]], wheres: list[str], data: DataConfig) -> list[list[str]]:
    pattern = _checked(str(data.answer_regex))
    flat = [(text, where) for found, where in zip(texts, wheres, strict=True) for text in found]
    results = _search(pattern, flat, data.answer_regex_s)
    extracted: list[list[str]] = []
    for found, where in zip(texts, wheres, strict=True):
        parts = []
        for text in found:
            part = next(results)
            if part is None:
                raise BadInput(
                    f"{where}: data.answer_regex {brief(pattern, 200)} finds nothing in {brief(text[-80:], 100)}; correct the pattern, "
                    "or the row"
                )
            parts.append(part.strip())
        extracted.append(parts)
    return extracted


def _checked(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        raise BadInput(f"data.answer_regex: {brief(pattern, 200)} is no regular expression: {str(error)[:200]}") from error
    if not groups:
        raise BadInput(f"data.answer_regex: {brief(pattern, 200)} has no group; put ( ) around the answer")
    return pattern


def _search(pattern: str, texts: list[tuple[str, str]], limit: float) -> Iterator[str | None]:
    """Yield the first group of each text's last match. Raises BadInput for the row that takes longer than `limit` seconds."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", FINDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps([pattern, [text for text, _ in texts]]).encode())
        process.stdin.close()
        lines = _lines(process.stdout.fileno(), limit)
        for _, where in texts:
            line = next(lines, None)
            if line is None:
                raise BadInput(
                    f"{where}: data.answer_regex {brief(pattern, 200)} takes longer than data.answer_regex_s={limit:g} s; a repetition "
                    r"inside a repetition, such as (\d+)+ or (.*)*, tries every division of the text: write it once"
                )
            if not line:
                raise RunFailed(f"{where}: the process that searches for data.answer_regex ended (exit status {process.wait()})")
            yield json.loads(line)
    except BrokenPipeError as error:
        raise RunFailed(f"the process that searches for data.answer_regex ended (exit status {process.wait()})") from error
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _lines(descriptor: int, limit: float) -> Iterator[bytes | None]:
    """Yield the lines that arrive; None if `limit` seconds pass without one, b"" at the end."""
    rest = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        if not poll.poll(limit * 1000):
            yield None
        piece = os.read(descriptor, 1 << 20)
        if not piece:
            yield b""
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
