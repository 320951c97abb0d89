"""Which rows are forwarded together: micro-batches by a token budget, alike on every rank.

A row is a prompt with its response, in tokens. A micro-batch costs its rows times its longest row: padding included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part of a batch: all that a `uec.types.Plan` needs beside the samples."""

    rows: list[int]  # row numbers of the whole batch, each once over all ranks
    steps: list[list[list[int]]]  # optimizer steps of micro-batches of positions in `rows`
    tokens: list[int]  # response tokens of each optimizer step, over all ranks
    counts: list[int]  # rows of each optimizer step, over all ranks


def plan(
    lengths: Sequence[int],
    response_lengths: Sequence[int],
    ranks: int,
    micro_batch_tokens: int,
    optimizer_steps: int,
    seed: int,
) -> list[Share]:
    """Split a batch into optimizer steps, ranks and micro-batches.

    Each optimizer step gets a random share of the rows, of nearly the same number and lengths as the others. Within a
    step, rows of like length share a micro-batch of at most `micro_batch_tokens` padded tokens; a longer row has one of its
    own. All ranks have the same number of micro-batches in a step, the k-th of each about equally large, because the
    slowest rank sets the pace; where rows are too few, some are empty. Fewer rows than optimizer steps: fewer steps.
    No rows: no steps.
    """
    lengths_N = np.asarray(lengths, dtype=np.int64)
    responses_N = np.asarray(response_lengths, dtype=np.int64)
    steps = [
        _deal(_bins(rows[np.argsort(-lengths_N[rows], kind="stable")], lengths_N, ranks, micro_batch_tokens), lengths_N, ranks)
        for rows in _split(lengths_N, optimizer_steps, seed)
    ]
    tokens = [int(sum(responses_N[rows].sum() for rank in step for rows in rank)) for step in steps]
    counts = [sum(len(rows) for rank in step for rows in rank) for step in steps]
    return [_share([step[rank] for step in steps], tokens, counts) for rank in range(ranks)]


def _split(lengths_N: Ints, parts: int, seed: int) -> list[Ints]:
    """Rows into random parts of like lengths: of each run of `parts` rows next in length, every part gets one."""
    n = len(lengths_N)
    parts = min(parts, n)
    if parts <= 1:
        return [np.arange(n)] if n else []
    rng = np.random.default_rng(seed)
    order_N = np.lexsort((rng.random(n), lengths_N))
    runs = -(-n // parts)
    part_N = rng.permuted(np.tile(np.arange(parts), (runs, 1)), axis=1).reshape(-1)[:n]
    return [order_N[part_N == part] for part in range(parts)]


def _bins(order_N: Ints, lengths_N: Ints, ranks: int, budget: int) -> list[Ints]:
    """Neighbours in the descending order of length into as few micro-batches as fit, but a multiple of `ranks`.

    The number is found under the budget; then the smallest budget that needs no more evens them out.
    """
    sorted_N = lengths_N[order_N].tolist()
    count = -(-len(_fill(sorted_N, budget)) // ranks) * ranks
    low, high = sorted_N[0], max(budget, sorted_N[0])
    while low < high:
        middle = (low + high) // 2
        if len(_fill(sorted_N, middle)) <= count:
            high = middle
        else:
            low = middle + 1
    ends = _fill(sorted_N, high)
    return [order_N[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _fill(descending: list[int], budget: int) -> list[int]:
    """Where each micro-batch ends if every one takes as many rows as the budget allows, and at least one."""
    ends = []
    start = 0
    while start < len(descending):
        start = min(len(descending), start + max(1, budget // descending[start]))
        ends.append(start)
    return ends


def _deal(bins: list[Ints], lengths_N: Ints, ranks: int) -> list[list[Ints]]:
    """To each rank the same number of micro-batches: by size, forth and back over the ranks, largest first."""
    bins = sorted(bins, key=lambda rows: len(rows) * int(lengths_N[rows[0]]), reverse=True)
    bins += [np.empty(0, dtype=np.int64)] * (-len(bins) % ranks)
    turns = [bins[start : start + ranks] for start in range(0, len(bins), ranks)]
    return [[turn[rank] if k % 2 == 0 else turn[ranks - 1 - rank] for k, turn in enumerate(turns)] for rank in range(ranks)]


def _share(steps: list[list[Ints]], tokens: list[int], counts: list[int]) -> Share:
    """Number a rank's rows in the order in which it forwards them."""
    rows: list[int] = []
    numbered = []
    for step in steps:
        micro_batches = []
        for batch in step:
            micro_batches.append(list(range(len(rows), len(rows) + len(batch))))
            rows.extend(batch.tolist())
        numbered.append(micro_batches)
    return Share(rows=rows, steps=numbered, tokens=tokens, counts=counts)
