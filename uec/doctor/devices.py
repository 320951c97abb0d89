"""Processors, GPUs and memory."""

import os
import platform
import re
import resource
import shutil
import subprocess
from pathlib import Path

import psutil

from uec.config.schema import Config
from uec.doctor.check import Check, fail, mib, note, ok
from uec.doctor.versions import gpu_packages

CPUINFO = Path("/proc/cpuinfo")
CGROUP = Path("/sys/fs/cgroup")
SETS = ("amx_bf16", "avx512f", "avx2")  # best first; vLLM's CPU wheel needs at least the last
NVIDIA_SMI_TIMEOUT_S = 20.0
ACTOR_BYTES = 700 << 20  # of an engine or a learner without the model: libraries, and their workspace with small models
BYTES_A_PARAMETER = 16  # of a learner: weights, gradient and AdamW's two moments in float32
OPEN_FILES_LEAST = 1024  # Linux's default; a Ray driver with its actors has a few hundred files open
OPEN_FILES_ADVISED = 8192  # by Ray, for a head node


def processor() -> Check:
    """Check the CPUs that this process may use, and the best instruction set."""
    cpus = len(os.sched_getaffinity(0))
    quota = _cpu_quota()
    share = f", of which the container may use {quota:g}" if quota is not None and quota < cpus else ""
    text = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ok("cpu", f"{cpus} CPUs{share}, {platform.machine()}")
    flags = set(next(iter(re.findall(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)), "").split())
    best = next((name for name in SETS if name in flags), None)
    if best is None:
        return fail("cpu", f"{cpus} CPUs{share}, without AVX2", "vLLM's CPU engine needs AVX2 at least: use another machine, or a GPU")
    if cpus < 2 or (quota is not None and quota < 2):
        return note("cpu", f"{cpus} CPUs{share}, {best}", "engine and learner need a core each; with one, everything takes twice as long")
    return ok("cpu", f"{cpus} CPUs{share}, {best}")


def gpu() -> Check:
    """Check which GPUs the driver lists, and whether the installed packages can use them."""
    found = driver_gpus()
    installed = gpu_packages()
    if not found and installed:
        return fail(
            "gpu",
            "no GPU found, but the GPU packages are installed",
            "repair the driver (`nvidia-smi` has to list the GPUs), or `make setup ACCEL=cpu`",
        )
    if not found:
        return ok("gpu", "none: runs use the CPU")
    if not installed:
        return note("gpu", "; ".join(found) + "; the CPU packages are installed", "to use the GPUs: `make setup ACCEL=gpu`")
    return ok("gpu", "; ".join(found))


def memory(cfg: Config, parameters: int | None) -> Check:
    """Compare free memory with the minimum that the run's actors need. `parameters`: the model's, if known."""
    free, total = free_memory()
    actors = cfg.rollout.engines + cfg.learner.ranks
    # On CPU: each engine has float32 weights and its KV cache; learners share one training state (ZeRO) or have one each.
    weights = parameters or 0
    need = actors * ACTOR_BYTES + cfg.learner.ranks * weights * BYTES_A_PARAMETER
    need += cfg.rollout.engines * ((cfg.rollout.kv_cache_mb or 0) * 2**20 + 4 * weights) + cfg.store_mb() * 2**20
    found = f"{mib(free)} of {mib(total)} free, the actors take {mib(need)} at least"
    if free < need:
        return fail("memory", found, "stop other programs, or lower rollout.engines, rollout.kv_cache_mb or the model's size")
    return ok("memory", found)


def open_files() -> Check:
    """Check the hard limit of open files; Ray raises the soft limit to it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return ok("open files", "no limit")
    if hard < OPEN_FILES_LEAST:
        advice = f"`ulimit -Hn {OPEN_FILES_ADVISED}` in the shell that starts Ray, or limits.conf"
        return fail("open files", f"at most {hard} at a time", advice)
    if hard < OPEN_FILES_ADVISED:
        advice = f"enough here; a cluster's head should have {OPEN_FILES_ADVISED} (`ulimit -n`)"
        return note("open files", f"at most {hard} at a time", advice)
    return ok("open files", f"at most {hard} at a time")


def driver_gpus() -> list[str]:
    """Return name, memory and driver of each GPU; empty if no driver answers."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line.split(", ") for line in done.stdout.splitlines()] if done.returncode == 0 else []
    return [f"{name} with {size}, driver {driver}" for name, size, driver in (line for line in lines if len(line) == 3)]


def _cpu_quota() -> float | None:
    """Return the number of CPUs that the control group allows; None without a limit."""
    file = CGROUP / "cpu.max"
    limit, _, period = file.read_text().strip().partition(" ") if file.exists() else ("max", "", "")
    return None if limit == "max" else int(limit) / int(period)


def free_memory() -> tuple[int, int]:
    """Return the free and total bytes of the machine or of the container, whichever is less."""
    machine = psutil.virtual_memory()
    file, used = CGROUP / "memory.max", CGROUP / "memory.current"
    limit = file.read_text().strip() if file.exists() and used.exists() else "max"
    if limit == "max":
        return machine.available, machine.total
    return min(machine.available, int(limit) - int(used.read_text())), min(machine.total, int(limit))
