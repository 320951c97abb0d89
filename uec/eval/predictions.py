"""The file of a model's responses to an evaluation's prompts, one JSON object a line; a later start continues from it.

A prompt's responses are appended together after the last one is graded, so complete prompts survive a crash.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from uec.errors import BadInput
from uec.system.files import atomic_write
from uec.types import Answer

RIGHT = 1.0 - 1e-6
"""Accuracy from which a response is right; partial credit is not."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One graded response."""

    prompt: int  # the row of the data, from 0
    index: int  # 0 .. n-1
    response: str
    answer: Answer  # the reference
    extracted: str | None  # the response's answer; None if it gives none, or if the grader does not compare answers
    accuracy: float
    parts: dict[str, float]
    error: str | None  # the reason if grading failed
    tokens: int
    truncated: bool
    entropy: float | None = None  # true entropy of the policy, mean over the response's tokens, in nats; only for index 0
    token_ids: list[int] | None = None  # of index 0, until its entropy is computed

    def line(self) -> str:
        """Return a line of JSON, without fields that do not apply."""
        row = {key: value for key, value in asdict(self).items() if not (value is None and key in ("entropy", "token_ids"))}
        return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


Groups = dict[int, list[Prediction]]
"""A model's responses by prompt."""


@dataclass
class Predictions:
    """One model's predictions: n for each complete prompt."""

    path: Path
    n: int
    groups: Groups

    @classmethod
    def read(cls, path: Path, n: int) -> "Predictions":
        """Read the complete prompts, and remove incomplete ones, which a crash leaves, from the file.

        Raises BadInput for an invalid line, except for a last line that a crash truncated.
        """
        groups: dict[int, dict[int, Prediction]] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                one = _parse(line)
            except (ValueError, TypeError, KeyError) as error:
                if number == len(lines) and not line.endswith(b"\n"):
                    break
                text = f"{path}, line {number}: no prediction ({error}); remove the line, or start anew with --overwrite"
                raise BadInput(text) from error
            groups.setdefault(one.prompt, {})[one.index] = one
        whole = {prompt: [found[i] for i in range(n)] for prompt, found in groups.items() if set(found) == set(range(n))}
        predictions = cls(path, n, whole)
        if lines and sum(map(len, whole.values())) != len(lines):
            predictions.write()
        return predictions

    def add(self, group: list[Prediction]) -> None:
        """Add a prompt's n responses, sorted by index, and append them to the file."""
        self.groups[group[0].prompt] = group
        with self.path.open("ab") as file:
            file.write(_encode(group))

    def set_entropies(self, entropies: dict[int, float]) -> None:
        """Set the entropy of the prompts' first responses, and rewrite the file, sorted."""
        for prompt, entropy in entropies.items():
            first, *others = self.groups[prompt]
            self.groups[prompt] = [replace(first, entropy=entropy, token_ids=None), *others]
        self.write()

    def write(self) -> None:
        """Write the whole file, sorted by prompt."""
        atomic_write(self.path, b"".join(_encode(self.groups[prompt]) for prompt in sorted(self.groups)))


def count_right(group: list[Prediction]) -> int:
    """Return how many of a prompt's responses are right."""
    return sum(one.accuracy >= RIGHT for one in group)


def _encode(group: Iterable[Prediction]) -> bytes:
    # JSON input may contain a lone surrogate. UTF-8 cannot encode it, but the escape sequence is valid in JSON.
    return "".join(one.line() for one in group).encode("utf-8", errors="backslashreplace")


def _parse(line: bytes) -> Prediction:
    row = json.loads(line)
    if not isinstance(row, dict) or not set(row) <= FIELD_NAMES:
        raise ValueError("not the fields of one")
    return Prediction(**row)


FIELD_NAMES = {field.name for field in fields(Prediction)}
