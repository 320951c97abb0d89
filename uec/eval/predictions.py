"""The file of a model's responses to an evaluation's prompts, one JSON object a line, and what of it a later start may use.

A prompt's responses are appended together as its last one is graded. Whatever ends the process, the prompts whose lines are whole stay.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from uec.errors import BadInput
from uec.system.files import atomic_write


@dataclass(frozen=True, slots=True)
class Prediction:
    """One graded response."""

    prompt: int  # the row of the data, from 0
    index: int  # 0 .. n-1
    response: str
    answer: str  # the reference
    extracted: str | None  # the answer that the response gives; None: none, or the grader does not compare answers
    accuracy: float
    parts: dict[str, float]
    error: str | None  # why grading failed
    tokens: int
    truncated: bool
    entropy: float | None = None  # true entropy of the policy, mean over the response's tokens, in nats; scored for index 0 alone
    token_ids: list[int] | None = None  # of index 0, until it is scored

    def line(self) -> str:
        """As JSON, without fields that do not apply."""
        row = {key: value for key, value in asdict(self).items() if not (value is None and key in ("entropy", "token_ids"))}
        return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass
class Predictions:
    """Those of one model: n lines for each prompt that is complete."""

    path: Path
    n: int
    groups: dict[int, list[Prediction]]  # by prompt

    @classmethod
    def read(cls, path: Path, n: int) -> "Predictions":
        """What there is; prompts of which lines are missing, as a crash leaves them, are taken out of the file, too.

        Raises BadInput for a line that is no prediction, but for a last one that a crash tore.
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
        """A prompt's n responses, by index: kept, and appended to the file."""
        self.groups[group[0].prompt] = group
        with self.path.open("ab") as file:
            file.write(_encode(group))

    def with_entropy(self, entropies: dict[int, float]) -> None:
        """Note the scored entropy of prompts' first responses, and write the file anew, sorted."""
        for prompt, entropy in entropies.items():
            first, *others = self.groups[prompt]
            self.groups[prompt] = [replace(first, entropy=entropy, token_ids=None), *others]
        self.write()

    def write(self) -> None:
        """The whole file, by prompt."""
        atomic_write(self.path, b"".join(_encode(self.groups[prompt]) for prompt in sorted(self.groups)))


def _encode(group: Iterable[Prediction]) -> bytes:
    # A lone surrogate, which JSON input may hold, has no UTF-8 but has this escape, in JSON as in Python.
    return "".join(one.line() for one in group).encode("utf-8", errors="backslashreplace")


def _parse(line: bytes) -> Prediction:
    row = json.loads(line)
    if not isinstance(row, dict) or not set(row) <= NAMES:
        raise ValueError("not the fields of one")
    return Prediction(**row)


NAMES = {field.name for field in fields(Prediction)}
