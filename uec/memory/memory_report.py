"""The lines on memory that `uec train CONFIG --dry-run` prints."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from uec.config.schema import Config
from uec.errors import BadInput
from uec.memory.allocations import MIB, DeviceEstimate, Holder, gib
from uec.memory.gpus import SIZES, gpu_estimates, smallest_gpu, usable
from uec.memory.host import host_estimate
from uec.memory.shape import shape_of
from uec.memory.workload import typical, worst_case
from uec.system.platform import detect

NAME = 24
"""Columns of a holder's name."""

SMALL_SHARE = 50
"""Allocations below this fraction (1 / 50) of their holder are summed up."""


def memory_report(cfg: Config, machine: float, gpu: float | None, prompts: Sequence[int]) -> tuple[list[str], list[str]]:
    """Return the lines of the estimate, and notes on what does not fit and which settings help.

    `machine`: bytes of this machine's memory; `gpu`: bytes of its smallest GPU. With None, the lines cover both this machine's memory
    and the GPUs that the run needs. `prompts`: their lengths in tokens.
    """
    shape, workloads = shape_of(cfg.model, cfg.lora), (typical(fmean(prompts)), worst_case(max(prompts)))
    lines = [
        f"memory, an estimate for {shape.parameters:,} parameters: typically, and at most, if every response is of full length and every "
        "prompt is difficult"
    ]
    notes: list[str] = []
    estimates: list[tuple[DeviceEstimate, DeviceEstimate, str, float]] = []  # typical, peak, available memory in words and in bytes
    platform = detect(cfg, "cuda")
    if gpu is not None:
        device, against = gpu, f"of {gib(gpu)}"
    else:
        size = smallest_gpu(cfg, shape, platform, workloads[1])
        device, against = usable(size or SIZES[-1]), f"fits {size} GB" if size else f"more than {SIZES[-1]} GB"
        stores = (0, cfg.store_mb() * MIB)
        try:
            cpu = detect(cfg, "cpu")
            usual, peak = (host_estimate(cfg, shape, cpu, workload, store) for workload, store in zip(workloads, stores, strict=True))
            estimates.append((usual, peak, f"of {gib(machine)}, on this machine without a GPU", machine))
        except BadInput as error:
            notes.append(f"not for this machine, which has no GPU: {error}")
    typicals, peaks = (gpu_estimates(cfg, shape, platform, workload, device) for workload in workloads)
    estimates += [(usual, peak, against, device) for usual, peak in zip(typicals, peaks, strict=True)]
    for usual, peak, words, available in estimates:
        lines += _table(usual, peak, words)
        notes += _excess(peak, available)
    return lines, notes


def check_host(cfg: Config, machine: float, prompts: Sequence[int]) -> None:
    """Check that a run on this machine, without GPUs, typically fits into its memory of `machine` bytes. Raises BadInput.

    `prompts`: their lengths in tokens. The typical case decides, because the worst one, every response of full length, is rare.
    """
    usual = host_estimate(cfg, shape_of(cfg.model), detect(cfg, "cpu"), typical(fmean(prompts)), cfg.store_mb() * MIB)
    if usual.bytes > machine:
        largest = max(usual.holders, key=lambda holder: holder.bytes)
        parts = f"{gib(largest.bytes)}: {_allocations(largest)}"
        raise BadInput(f"{_excess(usual, machine)[0]}; the largest part is {_named(largest)}, {parts}")


def _table(usual: DeviceEstimate, peak: DeviceEstimate, against: str) -> Iterator[str]:
    yield f"  {peak.device + ':':<{NAME}}  {_range(usual.bytes, peak.bytes)}, {against}"
    for least, holder in zip(usual.holders, peak.holders, strict=True):
        yield f"    {_named(holder):<{NAME - 2}}  {_range(least.bytes, holder.bytes)}: {_allocations(holder)}"


def _range(usual: float, peak: float) -> str:
    return gib(peak) if gib(usual) == gib(peak) else f"{gib(usual)}, at most {gib(peak)}"


def _named(holder: Holder) -> str:
    return holder.name if holder.count == 1 else f"{holder.count} x {holder.name}"


def _allocations(holder: Holder) -> str:
    """List the allocations, largest first, and the sum of the small ones."""
    shown = [allocation for allocation in holder.allocations if allocation.bytes * SMALL_SHARE >= holder.bytes]
    shown.sort(key=lambda allocation: -allocation.bytes)
    rest = holder.bytes - sum(allocation.bytes for allocation in shown)
    words = [f"{allocation.name} {gib(allocation.bytes)}" for allocation in shown]
    return ", ".join([*words, f"the rest {gib(rest)}"] if rest >= MIB / 2 else words)


def _excess(estimate: DeviceEstimate, available: float) -> list[str]:
    if estimate.bytes <= available:
        return []
    helps = ", ".join(estimate.advice)
    return [f"{estimate.device}: it needs {gib(estimate.bytes)} and {gib(available)} are available; what helps: {helps}"]
