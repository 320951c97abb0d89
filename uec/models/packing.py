"""Choose the responses of a forward pass: rows of a prompt with its responses, and micro-batches of rows by a token budget.

A packed micro-batch costs its number of tokens; an unpacked one costs its rows times its longest row, padding included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uec.config.schema import LearnerConfig
from uec.models.model_config import takes_packed_rows
from uec.types import UpdatePlan

Ints = NDArray[np.int64]


class Sized(Protocol):
    """A response by its size."""

    @property
    def prompt(self) -> int:
        """Index of the prompt; responses to one prompt may share a row."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def response_tokens(self) -> int: ...
    @property
    def observation_tokens(self) -> int: ...


MICRO_BATCH_COST = 512
"""Fixed cost of a micro-batch in tokens: kernel launches, gathering and reducing parameters."""

MAX_EXTRA = 8
"""Numbers of micro-batches to try."""


@dataclass(frozen=True, slots=True)
class Length:
    """The size of a response."""

    prompt: int
    prompt_tokens: int
    response_tokens: int
    observation_tokens: int = 0


def packs(settings: LearnerConfig, model: Any) -> bool:
    """Return whether rows are packed, so that responses to one prompt share its tokens. `model`: its transformers config.

    Packing requires that all layers have full attention, which another function can compute.
    """
    return settings.shared_prefix and takes_packed_rows(model)


def plan(
    batch: Sequence[Sized], ranks: int, micro_batch_tokens: int, optimizer_steps: int, seed: int, packed: bool = False
) -> list[UpdatePlan]:
    """Split a batch into optimizer steps, ranks, micro-batches and rows. The caller fills the columns of each rank's plan.

    Packed, a row is a prompt with as many of its responses as fit into a micro-batch; otherwise each response has a separate row.
    Each optimizer step gets a random share of the rows, similar to the others in number and lengths. Within a step, rows of similar
    length share a micro-batch of at most `micro_batch_tokens`, padding included; a longer row has a separate one. All ranks have the
    same number of micro-batches in a step, and the k-th ones have similar sizes, because the slowest rank determines the time; with too
    few rows, some are empty. With fewer rows than optimizer steps there are fewer steps, and none without rows.
    """
    rows = rows_of(batch, micro_batch_tokens) if packed else [[i] for i in range(len(batch))]
    lengths_N = np.array([_length(batch, row) for row in rows], dtype=np.int64)
    steps = []
    for numbers in _split(lengths_N, optimizer_steps, seed):
        descending = numbers[np.argsort(-lengths_N[numbers], kind="stable")]
        steps.append(_deal(_bins(descending, lengths_N, ranks, micro_batch_tokens, packed), lengths_N, ranks))
    members = [[[i for bin in rank for number in bin for i in rows[number]] for rank in step] for step in steps]
    tokens = [sum(batch[i].response_tokens for rank in step for i in rank) for step in members]
    counts = [sum(map(len, step)) for step in members]
    return [_share([[[rows[n] for n in bin] for bin in step[rank]] for step in steps], tokens, counts) for rank in range(ranks)]


def rows_of(batch: Sequence[Sized], longest: int) -> list[list[int]]:
    """Group the responses to each prompt into rows of at most `longest` tokens, in order."""
    by_prompt: dict[int, list[int]] = {}
    for i, length in enumerate(batch):
        by_prompt.setdefault(length.prompt, []).append(i)
    rows = []
    for responses in by_prompt.values():
        row = [responses[0]]
        for i in responses[1:]:
            if _length(batch, row) + _behind_prompt(batch[i]) <= longest:
                row.append(i)
            else:
                rows.append(row)
                row = [i]
        rows.append(row)
    return rows


def _length(batch: Sequence[Sized], row: list[int]) -> int:
    return batch[row[0]].prompt_tokens + sum(_behind_prompt(batch[i]) for i in row)


def _behind_prompt(sized: Sized) -> int:
    return sized.response_tokens + sized.observation_tokens


def _split(lengths_N: Ints, parts: int, seed: int) -> list[Ints]:
    """Split rows into random parts of similar lengths: each part gets one of every `parts` rows that are adjacent in length."""
    n = len(lengths_N)
    parts = min(parts, n)
    if parts <= 1:
        return [np.arange(n)] if n else []
    rng = np.random.default_rng(seed)
    order_N = np.lexsort((rng.random(n), lengths_N))
    runs = -(-n // parts)
    part_N = rng.permuted(np.tile(np.arange(parts), (runs, 1)), axis=1).reshape(-1)[:n]
    return [order_N[part_N == part] for part in range(parts)]


def _bins(order_N: Ints, lengths_N: Ints, ranks: int, budget: int, packed: bool) -> list[Ints]:
    """Group rows that are adjacent in descending length into micro-batches, whose number is a multiple of `ranks`.

    Uses the fewest that the budget allows, or more where each one saves more padding than MICRO_BATCH_COST.
    """
    sorted_N = lengths_N[order_N].tolist()
    fewest = -(-len(_fill(sorted_N, budget, packed)) // ranks) * ranks
    counts = range(fewest, fewest + 1) if packed else range(fewest, fewest + MAX_EXTRA * ranks, ranks)
    candidates = [_even(sorted_N, count, budget, packed) for count in counts]
    ends = min(candidates, key=lambda ends: _padded(sorted_N, ends) + MICRO_BATCH_COST * len(ends))
    return [order_N[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _even(descending: list[int], count: int, budget: int, packed: bool) -> list[int]:
    """Return the end of each micro-batch under the smallest budget that needs at most `count`, which makes them similar in size."""
    low, high = 1, budget
    while low < high:
        middle = (low + high) // 2
        if len(_fill(descending, middle, packed)) <= count:
            high = middle
        else:
            low = middle + 1
    return _fill(descending, high, packed)


def _padded(descending: list[int], ends: list[int]) -> int:
    """Return the tokens of all micro-batches, padding included."""
    return sum((end - start) * descending[start] for start, end in zip([0, *ends], ends, strict=False))


def _fill(descending: list[int], budget: int, packed: bool) -> list[int]:
    """Return the end of each micro-batch if each takes as many rows as the budget allows, and at least one."""
    ends = []
    size = widest = 0
    for i, length in enumerate(descending):
        if size and size + (length if packed else widest) > budget:
            ends.append(i)
            size = 0
        widest = widest if size else length
        size += length if packed else widest
    return [*ends, len(descending)] if descending else []


def _deal(bins: list[Ints], lengths_N: Ints, ranks: int) -> list[list[Ints]]:
    """Assign the same number of micro-batches to each rank: by size, largest first, back and forth over the ranks."""
    bins = sorted(bins, key=lambda rows: int(lengths_N[rows].sum()), reverse=True)
    bins += [np.empty(0, dtype=np.int64)] * (-len(bins) % ranks)
    turns = [bins[start : start + ranks] for start in range(0, len(bins), ranks)]
    return [[turn[rank] if k % 2 == 0 else turn[ranks - 1 - rank] for k, turn in enumerate(turns)] for rank in range(ranks)]


def _share(steps: list[list[list[list[int]]]], tokens: list[int], counts: list[int]) -> UpdatePlan:
    """Number a rank's responses in the order in which it forwards them."""
    responses = [i for step in steps for batch in step for row in batch for i in row]
    numbers = iter(range(len(responses)))
    numbered = [[[[next(numbers) for _ in row] for row in batch] for batch in step] for step in steps]
    return UpdatePlan(responses=responses, steps=numbered, tokens=tokens, counts=counts)
