"""The estimate in words: what `uec train CONFIG --dry-run` prints of it."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from uec.config.schema import Config
from uec.errors import BadInput
from uec.memory.gpus import SIZES, gpu_estimates, smallest_gpu, usable
from uec.memory.host import host_estimate
from uec.memory.load import most, usual
from uec.memory.parts import MIB, Estimate, Holder, gib
from uec.memory.shape import shape_of
from uec.system.platform import detect

NAME = 24
"""Columns of a holder's name."""

FEW = 50


def memory_report(cfg: Config, machine: float, gpu: float | None, prompts: Sequence[int]) -> tuple[list[str], list[str]]:
    """Lines of the estimate, and notes on what does not fit and what would help.

    `machine`: bytes of this machine's memory; `gpu`: of its least GPU, None without one. Then both are told: what the run takes here, and
    which GPUs it wants. `prompts`: their lengths in tokens.
    """
    shape, loads = shape_of(cfg.model), (usual(fmean(prompts)), most(max(prompts)))
    lines = [
        f"memory, an estimate for {shape.parameters:,} parameters: as a rule, and at most, if every response is as long and every prompt "
        "as difficult as may be"
    ]
    notes: list[str] = []
    shown: list[tuple[Estimate, Estimate, str, float]] = []  # as a rule, at most, against which memory in words, and in bytes
    platform = detect(cfg, "cuda")
    if gpu is not None:
        device, against = gpu, f"of {gib(gpu)}"
    else:
        size = smallest_gpu(cfg, shape, platform, loads[1])
        device, against = usable(size or SIZES[-1]), f"fits {size} GB" if size else f"more than {SIZES[-1]} GB"
        stores = (0, cfg.cluster.object_store_mb * MIB)
        try:
            rule, peak = (host_estimate(cfg, shape, detect(cfg, "cpu"), load, store) for load, store in zip(loads, stores, strict=True))
            shown.append((rule, peak, f"of {gib(machine)}, on this machine without a GPU", machine))
        except BadInput as error:
            notes.append(f"not for this machine, which has no GPU: {error}")
    rules, peaks = (gpu_estimates(cfg, shape, platform, load, device) for load in loads)
    shown += [(rule, peak, against, device) for rule, peak in zip(rules, peaks, strict=True)]
    for rule, peak, words, there in shown:
        lines += _table(rule, peak, words)
        notes += _excess(peak, there)
    return lines, notes


def _table(rule: Estimate, peak: Estimate, against: str) -> Iterator[str]:
    yield f"  {peak.device + ':':<{NAME}}  {_range(rule.bytes, peak.bytes)}, {against}"
    for least, holder in zip(rule.holders, peak.holders, strict=True):
        yield f"    {_named(holder):<{NAME - 2}}  {_range(least.bytes, holder.bytes)}: {_parts(holder)}"


def _range(rule: float, peak: float) -> str:
    return gib(peak) if gib(rule) == gib(peak) else f"{gib(rule)}, at most {gib(peak)}"


def _named(holder: Holder) -> str:
    return holder.name if holder.count == 1 else f"{holder.count} x {holder.name}"


def _parts(holder: Holder) -> str:
    """The largest first; what is less than a part in FEW of the holder's is summed up."""
    said = sorted((part for part in holder.parts if part.bytes * FEW >= holder.bytes), key=lambda part: -part.bytes)
    rest = holder.bytes - sum(part.bytes for part in said)
    words = [f"{part.name} {gib(part.bytes)}" for part in said]
    return ", ".join([*words, f"the rest {gib(rest)}"] if rest >= MIB / 2 else words)


def _excess(estimate: Estimate, there: float) -> list[str]:
    if estimate.bytes <= there:
        return []
    helps = ", ".join(estimate.advice)
    return [f"{estimate.device}: {gib(estimate.bytes)} are wanted and {gib(there)} are there; what helps: {helps}"]
